#!/usr/bin/env bash
# Makes .venv-label, the environment of MONAI Label, once; a second call with the same requirements does nothing.
# It is one of its own because MONAI Label needs pydicom below 3. The two steps may be typed by hand as well.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../setup.sh"
here=tools/monailabel
wanted="$(cat requirements.txt $here/*.txt $here/torchvision_ops.py | cksum)"
[ "$(cat .venv-label/installed 2>/dev/null)" != "$wanted" ] || exit 0

if [ ! -x .venv-label/bin/python ]; then
    python="$(_find_python)"
    echo "Making .venv-label with $("$python" --version)"
    "$python" -m venv .venv-label
fi
echo "Installing MONAI Label (3 GB with PyTorch)"
pip=(.venv-label/bin/python -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" -r $here/requirements.txt
"${pip[@]}" --no-deps -r $here/requirements-nodeps.txt
packages="$(.venv-label/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
cp $here/torchvision_ops.py "$packages/torchvision_ops.py"
echo "import torchvision_ops" >"$packages/torchvision_ops.pth"
.venv-label/bin/python -c "import monailabel.app, torchvision" >/dev/null
echo "$wanted" >.venv-label/installed
