#!/bin/sh
# Prints a commit of the git history around the current folder: message, files, and the beginning of its changes.
# Use: commit.sh HASH
set -eu

if ! git rev-parse --verify --quiet --end-of-options "$1^{commit}" >/dev/null; then
    echo "there is no commit $1 in this history; take a hash from the list" >&2
    exit 2
fi
git show --no-color --no-ext-diff --no-textconv --stat --patch --unified=1 --format='%h %an %as%n%n%B' "$1" --
