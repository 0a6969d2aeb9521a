#!/usr/bin/env bash
# Frameworks that cannot live in .venv beside the newest of everything, each in a folder of its own:
# old gyms want NumPy 1, dm_control lags behind MuJoCo, TorchRL brings top-level `benchmarks` and
# `scripts`. Tests run them in child processes, with such a folder at the front of PYTHONPATH.
#
# usage: scripts/install_beside.sh PYTHON FOLDER      PYTHON is that of the virtual environment
set -euo pipefail

python=$1
folder=$2
gym_versions=(0.17.3 0.21.0 0.26.2)
mkdir -p "$folder"

# pip warns of an index that lacks a package; that is no news.
quiet() { grep -v -E 'it is neither a file nor|notice\]' >&2 || true; }

is_there() { # NAME : with these very packages
    [[ "$(cat "$folder/$1/.packages" 2>/dev/null)" == "${packages[*]}" ]]
}

install() { # NAME PYTHON : installed whole, or not at all
    local name=$1
    echo "==> installing $name into $folder"
    rm -rf "$folder/$name" "$folder/$name.new"
    "$2" -m pip install --quiet --disable-pip-version-check --no-deps \
        --target "$folder/$name.new" "${packages[@]}" 2> >(quiet)
    echo "${packages[*]}" >"$folder/$name.new/.packages"
    mv "$folder/$name.new" "$folder/$name"
}

builder() { # The metadata of gym's old releases is refused by newer pips and setuptools.
    [[ -x "$folder/builder/bin/python" ]] && return
    "$python" -m venv "$folder/builder"
    "$folder/builder/bin/python" -m pip install --quiet --disable-pip-version-check \
        'pip<24.1' 'setuptools==65.5.0' 'wheel==0.38.4' 2> >(quiet)
}

for version in "${gym_versions[@]}"; do
    packages=(--no-build-isolation "gym==$version" 'numpy==1.26.4')
    is_there "gym-$version" && continue
    builder
    install "gym-$version" "$folder/builder/bin/python"
done
rm -rf "$folder/builder"

packages=('dm-control==1.0.50' 'mujoco==3.17.0' 'dm-env==1.6' 'dm-tree==0.1.10' 'labmaze==1.0.6'
    'lxml==6.1.3' 'wrapt==2.5.2')
is_there dm_control || install dm_control "$python"

# torch itself is that of .venv: 2.13.0.
packages=('torchrl==0.14.1' 'tensordict==0.14.3' 'hoptorch==0.1.4' 'pyvers==0.2.3')
is_there torchrl || install torchrl "$python"
