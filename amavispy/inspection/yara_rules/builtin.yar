/*
 * Rules that amavispy brings along. They name a handful of things that have no business in a mail and that no honest
 * mail contains; they replace no virus scanner. Patterns are written in hexadecimal where plain text would make virus
 * scanners stop this file.
 *
 * `name` is what logs, header fields and notifications call the finding.
 */

rule eicar_test_file
{
    meta:
        name = "EICAR-Test-File"
        description = "The anti-malware test file: 68 characters at the start of a file of at most 128"
    strings:
        $test = { 58 35 4f 21 50 25 40 41 50 5b 34 5c 50 5a 58 35 34 28 50 5e 29 37 43 43 29 37 7d 24
                  45 49 43 41 52 2d 53 54 41 4e 44 41 52 44 2d 41 4e 54 49 56 49 52 55 53 2d
                  54 45 53 54 2d 46 49 4c 45 21 24 48 2b 48 2a }
    condition:
        filesize <= 128 and $test at 0
}

rule rtf_equation_object
{
    meta:
        name = "Heuristics.RTF.EquationObject"
        description = "An RTF document that makes Word load the Equation Editor object by itself (CVE-2017-11882)"
    strings:
        $class = "4571756174696f6e2e33" nocase  // "Equation.3" in the hexadecimal of an embedded object
        $update = "\\objupdate"
    condition:
        uint32be(0) == 0x7b5c7274 and $class and $update
}

rule pdf_launches_shell
{
    meta:
        name = "Heuristics.PDF.LaunchesShell"
        description = "A PDF document whose Launch action starts a command interpreter"
    strings:
        $launch = /\/S[ \t\r\n]*\/Launch\b/
        $shell = /\/F[ \t\r\n]*\([^)]{0,40}(cmd|powershell|mshta|wscript)(\.exe)?\)/ nocase
    condition:
        uint32be(0) == 0x25504446 and $launch and $shell
}

rule shortcut_starts_interpreter
{
    meta:
        name = "Heuristics.LNK.StartsInterpreter"
        description = "A Windows shortcut, sent by mail, that starts a script interpreter with arguments"
    strings:
        $interpreter = /p\x00o\x00w\x00e\x00r\x00s\x00h\x00e\x00l\x00l\x00|m\x00s\x00h\x00t\x00a\x00\.\x00/ nocase
        $argument = /-\x00(w|e|n|c)|h\x00t\x00t\x00p/ nocase
    condition:
        uint32be(0) == 0x4c000000 and uint32be(4) == 0x01140200 and $interpreter and $argument
}
