#!/bin/sh
# Prints what changed between two points of the git history around the current folder, grouped by area, as JSON:
# {"from", "to", "areas": [{"name", "commits": [{"hash", "subject"}]}]}. A commit's area is the folder that most of its
# files lie in, two levels deep below src. Merges are left out; so are areas and commits beyond the bounds below.
# Use: changes.sh FROM TO
set -eu

areas_max=12
commits_max=25

point() {
    git rev-parse --verify --quiet --end-of-options "$1^{commit}" || {
        echo "there is no \`$1\` in this history; give a tag, a branch or a commit" >&2
        exit 2
    }
}

from=$(point "$1")
to=$(point "$2")

git log --no-merges --no-color --name-only --format='%x01%h %s' "$from..$to" |
    LC_ALL=C awk -v from="$1" -v to="$2" -v areas_max="$areas_max" -v commits_max="$commits_max" '
function quoted(text) {
    gsub(/\\/, "\\\\&", text)
    gsub(/"/, "\\\\&", text)
    gsub(/[\001-\037\177]/, " ", text)
    return "\"" text "\""
}
function area_of(path, parts, count) {
    count = split(path, parts, "/")
    if (count == 1) return "project"
    if (parts[1] == "src" && count > 2) return parts[2]
    return parts[1] == "src" ? "project" : parts[1]
}
function finish(area, best, count) {
    if (hash == "") return
    best = "project"
    count = 0
    for (area in files) if (files[area] > count || (files[area] == count && area < best)) { best = area; count = files[area] }
    split("", files)
    if (!(best in commits) && areas < areas_max) names[++areas] = best
    if (!(best in commits)) { commits[best] = 0; lines[best] = "" }
    if (commits[best]++ < commits_max)
        lines[best] = lines[best] (lines[best] == "" ? "" : ", ") "{\"hash\":" quoted(hash) ",\"subject\":" quoted(subject) "}"
}
/^\001/ {
    finish()
    line = substr($0, 2)
    space = index(line, " ")
    hash = substr(line, 1, space - 1)
    subject = substr(line, space + 1)
    next
}
$0 != "" { files[area_of($0)]++ }
END {
    finish()
    printf "{\"from\":%s,\"to\":%s,\"areas\":[", quoted(from), quoted(to)
    for (n = 1; n <= areas; n++)
        printf "%s\n{\"name\":%s,\"commits\":[%s]}", (n > 1 ? "," : ""), quoted(names[n]), lines[names[n]]
    print "]}"
}
'
