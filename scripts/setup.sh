#!/usr/bin/env bash
# Make .venv ready to run and test offbeat: a Python of 3.11 or newer, torch, then this package with its tools.
# Called by `make setup`; safe to run again.
#
#   PYTHON=python3.12     the interpreter to build on (default: the first that is new enough)
#   TORCH="torch==2.9.0"  what to hand to pip instead of choosing a build of torch
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=.venv
TESTED_TORCH=2.13.0

usable() { # a shim or a Debian python without its venv package answers to --version and still cannot do this
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        if usable "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "No usable ${PYTHON:-Python of 3.11 or newer} with its venv module was found: install one" \
        "(Debian, Ubuntu: apt install python3-venv) or name it with PYTHON=..., then run make setup again." >&2
    return 1
}

has_nvidia_gpu() {
    [ -d /proc/driver/nvidia/gpus ] || nvidia-smi -L 2>/dev/null | grep -q '^GPU'
}

install_cpu_torch() {
    # First what pip itself can find under its own settings: without a CPU build this fails at once.
    if pip install --quiet "torch==$TESTED_TORCH+cpu" 2>/dev/null; then
        return
    fi
    # uv knows where the CPU builds are kept.
    local uv
    uv=$(command -v uv || true)
    if [ -z "$uv" ] && pip install --quiet uv; then
        uv=$VENV/bin/uv
    fi
    if [ -n "$uv" ] && "$uv" pip install --python "$VENV/bin/python" --torch-backend=cpu torch; then
        return
    fi
    echo "No CPU build of torch was found; installing torch $TESTED_TORCH as pip offers it, which may be large." >&2
    pip install "torch==$TESTED_TORCH"
}

pip() { "$VENV/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }

if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    echo "Creating $VENV with $("$python" --version)"
    "$python" -m venv --clear "$VENV"
fi

if "$VENV/bin/python" -c 'import torch' 2>/dev/null; then
    echo "torch is there already"
elif [ -n "${TORCH:-}" ]; then
    # shellcheck disable=SC2086 # several words are several arguments
    pip install $TORCH
elif [ "$(uname -s)" != Linux ] || has_nvidia_gpu; then
    pip install torch
else
    echo "Installing a CPU build of torch (no NVIDIA GPU here)"
    install_cpu_torch
fi

echo "Installing offbeat with its development tools"
pip install --quiet --editable '.[dev]'
"$VENV/bin/python" -c 'import offbeat, sys, torch
print(f"Ready: offbeat {offbeat.__version__}, torch {torch.__version__}, Python {sys.version.split()[0]}")'
