#!/bin/sh
# Prints what changed between two points of the git history around the current folder, grouped by area, as JSON:
# {"from", "to", "areas": [{"name", "commits": [{"hash", "subject"}], "left_out": 0}]}, the area with most commits first.
# A commit's area is the folder that most of its files lie in: the first one below src, or else the topmost. Merges are
# left out. What is beyond the bounds below is counted in `left_out`; small areas beyond them are gathered in "others".
# Use: changes.sh FROM TO
set -eu

commits_max=2000 # read at all

point() {
    git rev-parse --verify --quiet --end-of-options "$1^{commit}" || {
        echo "there is no \`$1\` in this history; give a tag, a branch or a commit" >&2
        exit 2
    }
}

git rev-parse --git-dir >/dev/null 2>&1 || {
    echo "the project's folder is in no git history, or git isn't installed" >&2
    exit 2
}
from=$(point "$1")
to=$(point "$2")

git -c core.quotePath=false -c log.showSignature=false log --max-count="$commits_max" --no-merges --no-color --no-notes \
    --name-only --no-relative --format='%x01%h %s' "$from..$to" -- |
    FROM=$1 TO=$2 LC_ALL=C awk '
function quoted(text) {
    gsub(/\\/, "\\\\&", text)
    gsub(/"/, "\\\\&", text)
    gsub(/[\001-\037\177]/, " ", text)
    return "\"" text "\""
}
# Cuts between characters, not inside one.
function shortened(text, bytes) {
    if (length(text) <= bytes) return text
    text = substr(text, 1, bytes)
    sub(/[\300-\377][\200-\277]*$/, "", text)
    return text "..."
}
function area_of(path, parts, count) {
    sub(/^"/, "", path)
    count = split(path, parts, "/")
    if (count == 1) return "project"
    if (parts[1] == "src") return count > 2 ? parts[2] : "project"
    return parts[1]
}
function finish(area, best, most) {
    if (hash == "") return
    best = "project"
    most = 0
    for (area in files)
        if (files[area] > most || (files[area] == most && area < best)) { best = area; most = files[area] }
    split("", files)
    if (!(best in count)) { names[++areas] = best; count[best] = 0 }
    commit[best, ++count[best]] = "{\"hash\":" quoted(hash) ",\"subject\":" quoted(shortened(subject, subject_bytes_max)) "}"
}
# The areas with most commits first; among equals the one that changed last.
function sort_areas(at, to, name) {
    for (at = 2; at <= areas; at++) {
        name = names[at]
        for (to = at - 1; to > 0 && count[names[to]] < count[name]; to--) names[to + 1] = names[to]
        names[to + 1] = name
    }
}
function gather_others(at, nth) {
    if (areas <= areas_max) return
    count["others"] += 0
    for (at = areas_max; at <= areas; at++)
        if (names[at] != "others")
            for (nth = 1; nth <= count[names[at]]; nth++) commit["others", ++count["others"]] = commit[names[at], nth]
    names[areas_max] = "others"
    areas = areas_max
}
function print_area(name, nth, shown) {
    shown = count[name] < area_commits_max ? count[name] : area_commits_max
    printf "{\"name\":%s,\"commits\":[", quoted(name)
    for (nth = 1; nth <= shown; nth++) printf "%s%s", (nth > 1 ? "," : ""), commit[name, nth]
    printf "],\"left_out\":%d}", count[name] - shown
}
BEGIN {
    areas_max = 12
    area_commits_max = 25
    subject_bytes_max = 200
}
/^\001/ {
    finish()
    space = index($0, " ")
    hash = substr($0, 2, space - 2)
    subject = substr($0, space + 1)
    next
}
$0 != "" { files[area_of($0)]++ }
END {
    finish()
    if (areas == 0) {
        print "there are no commits from `" ENVIRON["FROM"] "` to `" ENVIRON["TO"] "`; the older one comes first" | "cat >&2"
        exit 3
    }
    sort_areas()
    gather_others()
    printf "{\"from\":%s,\"to\":%s,\"areas\":[", quoted(ENVIRON["FROM"]), quoted(ENVIRON["TO"])
    for (n = 1; n <= areas; n++) {
        print (n > 1 ? "," : "")
        print_area(names[n])
    }
    print "]}"
}
'
