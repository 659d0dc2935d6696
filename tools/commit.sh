#!/bin/sh
# Prints a commit of the git history around the current folder: message, files, and the beginning of its changes.
# Use: commit.sh HASH
set -eu

if ! git rev-parse --verify --quiet --end-of-options "$1^{commit}" >/dev/null; then
    echo "there is no commit $1 in this history; take a hash from the list" >&2
    exit 2
fi
git -c core.quotePath=false -c log.showSignature=false show --no-color --no-ext-diff --no-textconv --no-notes \
    --stat=100 --stat-count=40 --patch --unified=1 --format='%h %as%n%n%B' --end-of-options "$1" -- |
    LC_ALL=C awk '
BEGIN { bytes_max = 7800 }
{
    bytes += length($0) + 1
    if (bytes > bytes_max) {
        print "(the rest of this commit is not shown)"
        exit
    }
    print
}
'
