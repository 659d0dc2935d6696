#!/bin/sh
# Splits the text on standard input at its headings, and prints a JSON list of {"title", "text"}.
# A heading is a Markdown heading ("## Term") or a numbered line ("4. Term", "§ 4 Term"). What stands before the first
# one is the section "Preamble". A section without text is left out.
set -eu

LC_ALL=C awk '
function quoted(text) {
    gsub(/\\/, "\\\\&", text)
    gsub(/"/, "\\\\&", text)
    gsub(/\t/, "\\t", text)
    gsub(/\n/, "\\n", text)
    gsub(/[\001-\037\177]/, " ", text)
    return "\"" text "\""
}
function finish() {
    sub(/^\n+/, "", text)
    sub(/\n+$/, "", text)
    if (text != "") printf "%s{\"title\":%s,\"text\":%s}", count++ ? ",\n " : "[", quoted(title), quoted(text)
    text = ""
}
BEGIN { title = "Preamble" }
{ sub(/\r$/, "") }
/^#+ / || (length($0) < 80 && /^([0-9]+\.|§ *[0-9]+) *[A-Z][^.;]*$/) {
    finish()
    title = $0
    sub(/^#+ */, "", title)
    next
}
{ text = text "\n" $0 }
END {
    finish()
    print count ? "]" : "[]"
}
'
