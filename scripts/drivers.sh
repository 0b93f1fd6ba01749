#!/usr/bin/env bash
# Install what only the tests of real arms need: the makers' libraries, and an independent simulator of an FR3's
# controller in a venv of its own. Called by `make test`, after setup.sh; safe to run again. What cannot be installed
# here is said, and its tests are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

SIM=.venv-franka-sim

pip_of() { "$1/bin/python" -m pip --disable-pip-version-check --no-input "${@:2}"; }

install_franka_sim() { # a venv of its own, for it wants an older mujoco; without its dependencies, which are for looks
    "$SIM/bin/python" -m pip --version >/dev/null 2>&1 || .venv/bin/python -m venv --clear "$SIM" || return 1
    pip_of "$SIM" install --quiet "mujoco==3.2.7" "numpy<3" || return 1
    pip_of "$SIM" install --quiet --no-deps "franka-sim==1.1.7" || return 1
    "$SIM/bin/python" -c 'import franka_sim'
}

for driver in fr3 panda ur; do
    pip_of .venv install --quiet --editable ".[$driver]" ||
        echo "The library of the $driver driver cannot be installed here: its tests are skipped." >&2
done
install_franka_sim || echo "franka-sim cannot be installed here: its test is skipped." >&2
