"""Configurations as tools read them: their files, and what --set changes."""

from __future__ import annotations

import pytest

from common.errors import InputError
from tools.configuration import as_value, ids_in_words, read_configuration


def test_a_configuration_is_read_as_it_stands(tmp_path):
    file = tmp_path / "train.json"
    file.write_text('{"lr": "$1 / 10", "städte": [1, 2]}', encoding="utf-8")
    assert read_configuration(file) == {"lr": "$1 / 10", "städte": [1, 2]}


@pytest.mark.parametrize(
    ("content", "remedy", "message"),
    [
        (None, "", "cannot be read ([Errno 2] No such file or directory: '{file}'); pass a configuration in JSON"),
        ("{", "", "cannot be read (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)); "
         "pass a configuration in JSON"),
        ("[]", "", "is no configuration; pass ids and values, {{...}}, in JSON"),
        ("[]", "take it from the release", "is no configuration; take it from the release"),
    ],
)  # fmt: skip
def test_what_is_none_is_refused(tmp_path, content, remedy, message):
    file = tmp_path / "train.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_configuration(file, remedy)
    assert str(caught.value) == f"{file}: " + message.format(file=file)


def test_ids_are_what_was_typed():
    assert ids_in_words(["lr=1e-3", "name=a=b", "empty=", "lr=2"], "lr=1") == {"lr": "2", "name": "a=b", "empty": ""}


@pytest.mark.parametrize("pair", ["lr", "=3", ""])
def test_what_sets_no_id_is_refused(pair):
    with pytest.raises(InputError) as caught:
        ids_in_words([pair], "width=0.5")
    assert str(caught.value) == f"--set {pair}: is not of the form ID=VALUE; pass one such as --set width=0.5"


@pytest.mark.parametrize(("text", "value"), [("0.5", 0.5), ("[1, null]", [1, None]), ("true", True), ("unet", "unet")])
def test_a_value_is_json_or_a_word(text, value):
    assert as_value(text) == value
