# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# Man pages out of a public header, whose doc-comments are the only copy of the text:
#
#     awk -f mk/man.awk -v out=DIR -v name=accel_ep -v date="January 1, 2026" -v version=0.1.0 accel_ep.h
#
# writes DIR/man3/SYMBOL.3 for each /** symbol - summary */ and DIR/man7/NAME.7 from the comment that opens the header.
# With -v list=1 it prints "symbol<TAB>summary" instead. Plain POSIX awk; comments are not parsed beyond what
# CONVENTIONS' form of them needs: "@param: text", "Word: text" sections, prose, and indented lines, kept as they are.

function escape(s)
{
	gsub(/\\/, "\\e", s)
	gsub(/-/, "\\-", s)
	return s
}

# Prose may name @parameters and functions(); a line must not begin with a control character.
function prose(s)
{
	s = escape(s)
	while (match(s, /@[a-z_]+/))
		s = substr(s, 1, RSTART - 1) "\\fI" substr(s, RSTART + 1, RLENGTH - 1) "\\fR" \
			substr(s, RSTART + RLENGTH)
	if (s ~ /^[.']/)
		s = "\\&" s
	return s
}

# Text in lines below 80 bytes, as roff wants its input.
function fill(s,	words, n, i, line)
{
	n = split(s, words, " ")
	line = ""
	for (i = 1; i <= n; i++) {
		if (line != "" && length(line) + length(words[i]) > 68) {
			print prose(line) >page
			line = ""
		}
		line = line (line == "" ? "" : " ") words[i]
	}
	if (line != "")
		print prose(line) >page
}

function literal(text,	lines, n, i, s)
{
	print ".nf" >page
	n = split(text, lines, "\n")
	for (i = 1; i <= n; i++) {
		s = escape(lines[i])
		print (s == "" ? ".sp" : s ~ /^[.']/ ? "\\&" s : s) >page
	}
	print ".fi" >page
}

function head(file, title, section, what)
{
	page = file
	print ".\\\" Generated from accel/" name ".h; edit that." >page
	print ".TH " toupper(title) " " section " \"" date "\" \"accel " version "\"" >page
	print ".SH NAME" >page
	print title " \\-" >page
	fill(what)
	print ".SH SYNOPSIS" >page
	print ".nf" >page
	print ".B #include <accel/" name ".h>" >page
	print ".fi" >page
}

# The prose of a comment: flowing lines are filled, a run of indented lines is literal.
function body(text,	lines, n, i, para, block)
{
	n = split(text, lines, "\n")
	for (i = 1; i <= n + 1; i++) {
		if (i <= n && lines[i] ~ /^    /) {
			block = block (block == "" ? "" : "\n") lines[i]
			fill(para)
			para = ""
			continue
		}
		if (block != "") {
			literal(block)
			block = ""
		}
		if (i > n || lines[i] == "") {
			fill(para)
			para = ""
			if (i < n && lines[i + 1] !~ /^    /)
				print ".PP" >page
		} else {
			para = para " " lines[i]
		}
	}
}

function finish(	i)
{
	if (list) {
		print symbol "\t" summary
		return
	}
	head(out "/man3/" symbol ".3", symbol, 3, summary)
	print ".PP" >page
	literal(code)
	for (i = 1; i <= params; i++) {
		if (i == 1)
			print ".SH PARAMETERS" >page
		print ".TP" >page
		print "\\fI" param[i] "\\fR" >page
		fill(param_text[i])
	}
	if (text != "") {
		print ".SH DESCRIPTION" >page
		body(text)
	}
	for (i = 1; i <= sections; i++) {
		print ".SH " (section[i] == "Return" ? "RETURN VALUE" : toupper(section[i])) >page
		fill(section_text[i])
	}
	print ".SH SEE ALSO" >page
	print ".BR " name " (7)" >page
	close(page)
}

# One line of a doc-comment, its leading " * " taken off.
function doc_line(s,	colon)
{
	if (symbol == "") {
		if (!match(s, /^(struct )?[a-z0-9_]+ - /))
			return
		symbol = substr(s, 1, RLENGTH - 3)
		sub(/^struct /, "", symbol)
		summary = substr(s, RLENGTH + 1)
		where = "summary"
		return
	}
	if (match(s, /^@[a-z0-9_]+:/)) {
		param[++params] = substr(s, 2, RLENGTH - 2)
		param_text[params] = substr(s, RLENGTH + 1)
		where = "param"
	} else if (match(s, /^(Shapes|Units|Context|Return|Source):/)) {
		section[++sections] = substr(s, 1, RLENGTH - 1)
		section_text[sections] = substr(s, RLENGTH + 1)
		where = "section"
	} else if (where == "param" && s ~ /^  /) {
		param_text[params] = param_text[params] " " s
	} else if (where == "section" && s != "") {
		section_text[sections] = section_text[sections] " " s
	} else {
		text = text (text == "" ? "" : "\n") s
		where = "text"
	}
}

function strip(s)
{
	sub(/ *\*\/$/, "", s)
	sub(/^ *\/\*\*? ?/, "", s)
	sub(/^ \* ?/, "", s)
	return s
}

# The header's own comment: the third one, after licence and copyright.
FNR > 2 && !overview_done && /^\/\*$/ { in_overview = 1; next }
in_overview && /^ \*\/$/ { in_overview = 0; overview_done = 1; next }
in_overview { overview = overview (overview == "" ? "" : "\n") strip($0); next }

/^\/\*\*/ {
	symbol = summary = text = code = where = ""
	params = sections = 0
	in_doc = 1
}
in_doc {
	if (strip($0) != "" || symbol != "")
		doc_line(strip($0))
	if (/\*\/$/) {
		in_doc = 0
		in_code = symbol != ""
		sub(/\n+$/, "", text)
	}
	next
}
# What it documents runs to the ; at the left margin's level.
in_code {
	code = code (code == "" ? "" : "\n") $0
	if (/^};$/ || (/;$/ && code !~ /^struct [a-z_]+ \{/)) {
		in_code = 0
		finish()
	}
}

END {
	if (list)
		exit
	what = overview
	sub(/[.:][ \n].*/, "", what)
	gsub(/\n/, " ", what)
	head(out "/man7/" name ".7", name, 7, tolower(substr(what, 1, 1)) substr(what, 2))
	print ".SH DESCRIPTION" >page
	body(overview)
	close(page)
}
