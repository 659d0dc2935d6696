#!/bin/sh
# Splits the text on standard input at its headings, and prints a JSON list of {"title", "text"}.
# A heading is a Markdown heading ("## Term") or a numbered line ("4. Term", "§ 4 Term", "Article 4: Term"). What stands
# before the first one is the section "Preamble". A section without text is left out, a long one is split between
# paragraphs, and where there are too many, neighbours are joined.
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
function is_heading(line) {
    if (line ~ /^#+ /) return 1
    if (length(line) >= 80) return 0
    return line ~ /^([0-9]+\.|§ *[0-9]+) *[A-Z][^.;]*$/ || line ~ /^(Article|ARTICLE|Section|SECTION|Clause|CLAUSE) +[0-9IVX]+[^.;]*$/
}
function keep() {
    sub(/^\n+/, "", text)
    sub(/\n+$/, "", text)
    if (text != "") {
        titles[++count] = title (part > 1 ? " (part " part ")" : "")
        texts[count] = text
        part++
    }
    text = ""
}
# A line that is longer than a section may be is cut at a space, or at least between characters.
function add(line, cut) {
    while (length(line) > text_bytes_max) {
        keep()
        for (cut = text_bytes_max; cut > text_bytes_max - 400 && substr(line, cut, 1) != " "; cut--) continue
        while (substr(line, cut + 1, 1) ~ /[\200-\277]/) cut--
        text = substr(line, 1, cut)
        keep()
        line = substr(line, cut + 1)
    }
    if (length(text) + length(line) >= text_bytes_max) keep()
    text = text "\n" line
}
BEGIN {
    sections_max = 40
    text_bytes_max = 12000
    title = "Preamble"
    part = 1
}
{ sub(/\r$/, "") }
is_heading($0) {
    keep()
    title = $0
    part = 1
    sub(/^#+ */, "", title)
    next
}
$0 == "" && length(text) > text_bytes_max * 3 / 4 { keep() }
{ add($0) }
END {
    keep()
    joined = int((count + sections_max - 1) / sections_max)
    printf "["
    for (n = 1; n <= count; n += joined) {
        title = titles[n]
        text = texts[n]
        for (m = n + 1; m < n + joined && m <= count; m++) {
            title = title "; " titles[m]
            text = text "\n\n" titles[m] "\n\n" texts[m]
        }
        printf "%s{\"title\":%s,\"text\":%s}", (n > 1 ? ",\n " : ""), quoted(title), quoted(text)
    }
    print "]"
}
'
