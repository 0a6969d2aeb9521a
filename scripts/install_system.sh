#!/usr/bin/env bash
# What the tests need from the system, installed where it is absent:
#   a browser               the finished films are played in real Chromium (or Chrome)
#   Firefox, and FFmpeg's   the gallery's page is used in it, too; it plays H.264 with the system's
#   codecs                  libavcodec only
#   EGL with Mesa's drivers MuJoCo draws without a screen or a GPU (MUJOCO_GL=egl)
# Debian and its kin only; elsewhere it says what is missing and how to get it.
set -euo pipefail

MAC_CHROME="/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
GL_PACKAGES=(libegl1 libopengl0 libgl1-mesa-dri)

have_browser() {
    if [[ -n "${ROLLCAM_CHROMIUM:-}" ]]; then
        [[ -x "$ROLLCAM_CHROMIUM" ]] && return
        echo "ROLLCAM_CHROMIUM names no program: $ROLLCAM_CHROMIUM" >&2
        exit 1
    fi
    local name
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" >/dev/null && return
    done
    [[ -x "$MAC_CHROME" ]]
}

have_firefox() {
    [[ -n "${ROLLCAM_FIREFOX:-}" ]] || command -v firefox-esr >/dev/null || command -v firefox >/dev/null
}

have_codecs() { compgen -G "/usr/lib/*/libavcodec.so.*" >/dev/null; }

have_apt() { command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; }

have_package() { [[ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null)" == *ii* ]]; }

is_offered() { [[ -n "$(apt-cache show "$1" 2>/dev/null)" ]]; }

# Its package has another number in each release.
newest_codecs() {
    local number
    for number in {70..57}; do
        if is_offered "libavcodec$number"; then
            echo "libavcodec$number"
            return
        fi
    done
}

as_root() {
    if [[ $EUID -eq 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        # Of the codecs the number is not known yet; ffmpeg brings them.
        echo "This needs root, and there is no sudo. As root: apt-get install ${missing[*]} ${firefox[*]/libavcodec/ffmpeg}" >&2
        exit 1
    fi
}

browser_by_hand() {
    cat >&2 <<'TEXT'
The tests play films in Chromium or Chrome, and none was found.
Install one (Ubuntu: Google's chrome package, its chromium is a snap; Fedora: dnf install chromium;
macOS: brew install --cask google-chrome), or name the program you have:
    ROLLCAM_CHROMIUM=/path/to/chrome make test
TEXT
    exit 1
}

missing=()
firefox=()
have_browser || missing+=(chromium)
if have_apt; then
    for package in "${GL_PACKAGES[@]}"; do
        have_package "$package" || missing+=("$package")
    done
    have_firefox || firefox+=(firefox-esr)
    have_codecs || firefox+=(libavcodec)
fi
[[ ${#missing[@]} -gt 0 || ${#firefox[@]} -gt 0 ]] || exit 0
have_apt || browser_by_hand

as_root apt-get update -qq
if [[ " ${missing[*]} " == *" chromium "* ]] && ! is_offered chromium; then
    browser_by_hand # Ubuntu
fi
for package in "${firefox[@]}"; do
    [[ "$package" == libavcodec ]] && package=$(newest_codecs)
    if [[ -n "$package" ]] && is_offered "$package"; then
        missing+=("$package")
    elif [[ "$package" == firefox-esr ]]; then
        echo "==> no Firefox but a snap here: the tests in it are left out" >&2 # Ubuntu
    fi
done
[[ ${#missing[@]} -gt 0 ]] || exit 0
echo "==> installing from the system's packages: ${missing[*]}"
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
