# Makes .venv and installs what is needed, once; sourced by demo.sh and test.sh. Argument: further requirement files.
# A second call with the same requirements does nothing.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

_find_python() {
    local name
    for name in python3.11 python3 python; do
        if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "error: Python 3.11 was not found; install it (python.org, or apt install python3.11 python3.11-venv)" >&2
    return 1
}

setup() {
    local python files=(requirements.txt "$@") stamp wanted arguments=() file
    wanted="$(cat "${files[@]}" | cksum)"
    stamp=".venv/installed-$(echo "${files[@]}" | cksum | cut -d' ' -f1)"
    if [ ! -x .venv/bin/python ]; then
        python="$(_find_python)" || return 1
        echo "Making .venv with $("$python" --version)"
        "$python" -m venv .venv || return 1
    fi
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        for file in "${files[@]}"; do arguments+=(-r "$file"); done
        echo "Installing ${files[*]} (PyTorch is a large download)"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check "${arguments[@]}" || return 1
        echo "$wanted" >"$stamp"
    fi
}
