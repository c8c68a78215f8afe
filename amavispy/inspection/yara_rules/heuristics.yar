/*
 * heuristics - what honest mail hardly ever contains: documents, shortcuts and pages that start programs by themselves.
 *
 * No rule looks at names or at one word alone: each wants the kind of file, something that makes it act by itself, and
 * what it would do. So they miss more than a virus scanner does, and replace none. docs/scanners.md tells each of them,
 * and what it takes for granted. `name` is what logs, header fields and notifications call the finding.
 */

rule macro_runs_program
{
    meta:
        name = "Heuristics.Macro.RunsProgram"
        description = "An OLE document whose macro starts by itself and names a program, a script host or a download"
    strings:
        $project = "_VBA_PROJECT" wide
        $auto1 = /(^|[^A-Za-z])(Auto(_?Open|_?Close|Exec|Exit|New)|Document_?(Open|Close|New)|Workbook_(Open|Activate|BeforeClose))([^A-Za-z]|$)/ nocase
        $shell1 = "WScript.Shell" ascii wide nocase
        $shell2 = "Shell.Application" ascii wide nocase
        $shell3 = "powershell" ascii wide nocase
        $shell4 = /cmd(\.exe)? {1,3}\/[ckCK]/ ascii wide nocase
        $shell5 = "URLDownloadToFile" ascii wide nocase
        $shell6 = "Win32_Process" ascii wide nocase
        $shell7 = "mshta" ascii wide nocase fullword
        $shell8 = "ADODB.Stream" ascii wide nocase
        $shell9 = "bitsadmin" ascii wide nocase
        $shell10 = "certutil" ascii wide nocase
    condition:
        uint32be(0) == 0xd0cf11e0 and $project and $auto1 and any of ($shell*)
}

rule pdf_launches_program
{
    meta:
        name = "Heuristics.PDF.LaunchesProgram"
        description = "A PDF document that starts a command interpreter, or any program as soon as it is opened"
    strings:
        $launch = /\/S[ \t\r\n]{0,9}\/Launch[^A-Za-z]/
        $shell = /\/F[ \t\r\n]{0,9}\([^)]{0,60}(cmd|powershell|mshta|wscript|cscript|rundll32)(\.exe)?\)/ nocase
        $win = /\/Win[ \t\r\n]{0,9}<</
        $open = /\/(OpenAction|AA)[^A-Za-z]/
    condition:
        $launch and ($shell or ($open and $win)) and for any i in (0..1023) : (uint32be(i) == 0x25504446)
}

rule pdf_opens_attachment
{
    meta:
        name = "Heuristics.PDF.OpensAttachment"
        description = "A PDF document whose script, run when it is opened, saves and starts a file it carries"
    strings:
        $open = /\/(OpenAction|AA)[^A-Za-z]/
        $script = /\/S[ \t\r\n]{0,9}\/JavaScript[^A-Za-z]/
        $export = /exportDataObject[^)]{0,200}nLaunch['"]? {0,9}: {0,9}[12]/
    condition:
        $open and $script and $export and for any i in (0..1023) : (uint32be(i) == 0x25504446)
}

rule pdf_hides_names
{
    meta:
        name = "Heuristics.PDF.HidesNames"
        description = "A PDF document that spells JavaScript, OpenAction or Launch with escapes; no program needs to"
    strings:
        $script = /\/(J|#4a)(a|#61)(v|#76)(a|#61)(S|#53)(c|#63)(r|#72)(i|#69)(p|#70)(t|#74)[^A-Za-z#]/ nocase
        $script_plain = /\/JavaScript[^A-Za-z#]/ nocase
        $open = /\/(O|#4f)(p|#70)(e|#65)(n|#6e)(A|#41)(c|#63)(t|#74)(i|#69)(o|#6f)(n|#6e)[^A-Za-z#]/ nocase
        $open_plain = /\/OpenAction[^A-Za-z#]/ nocase
        $launch = /\/(L|#4c)(a|#61)(u|#75)(n|#6e)(c|#63)(h|#68)[^A-Za-z#]/ nocase
        $launch_plain = /\/Launch[^A-Za-z#]/ nocase
    condition:
        (#script > #script_plain or #open > #open_plain or #launch > #launch_plain)
        and for any i in (0..1023) : (uint32be(i) == 0x25504446)
}

rule shortcut_starts_interpreter
{
    meta:
        name = "Heuristics.LNK.StartsInterpreter"
        description = "A Windows shortcut that starts a script interpreter, with arguments that hide it or fetch something"
    strings:
        $program1 = "powershell" ascii wide nocase
        $program2 = "mshta" ascii wide nocase fullword
        $program3 = "wscript" ascii wide nocase fullword
        $program4 = "cscript" ascii wide nocase fullword
        $program5 = "cmd.exe" ascii wide nocase
        $program6 = "rundll32" ascii wide nocase
        $argument1 = /-(w|win|windowstyle) {1,9}["']?(h|1)/ ascii wide nocase
        $argument2 = /-(e|ec|enc|encodedcommand) {1,9}[A-Za-z0-9+\/=]{16}/ ascii wide nocase
        $argument3 = /-(nop|noprofile|ep|exec|executionpolicy)[ "']/ ascii wide nocase
        $argument4 = /https?:\/\// ascii wide nocase
        $argument5 = /\/[ck] [^\r\n]{0,80}(powershell|mshta|curl|certutil|bitsadmin|wscript|rundll32|regsvr32)/ ascii wide nocase
        $argument6 = "javascript:" ascii wide nocase
    condition:
        uint32be(0) == 0x4c000000 and uint32be(4) == 0x01140200 and any of ($program*) and any of ($argument*)
}

rule hta_runs_program
{
    meta:
        name = "Heuristics.HTA.RunsProgram"
        description = "An HTML application that uses the shell"
    strings:
        $hta = "<hta:application" nocase
        $shell1 = "WScript.Shell" nocase
        $shell2 = "Shell.Application" nocase
        $shell3 = "powershell" nocase
        $shell4 = "Win32_Process" nocase
    condition:
        $hta and any of ($shell*) and filesize < 4MB
}

rule script_downloads_and_runs
{
    meta:
        name = "Heuristics.Script.DownloadsAndRuns"
        description = "A script for Windows' script host that fetches something, saves it and starts it"
    strings:
        $object = /(new {1,9}ActiveXObject|CreateObject|GetObject) {0,9}\(/ nocase
        $fetch1 = "MSXML2.XMLHTTP" nocase
        $fetch2 = "MSXML2.ServerXMLHTTP" nocase
        $fetch3 = "WinHttp.WinHttpRequest" nocase
        $fetch4 = "Microsoft.XMLHTTP" nocase
        $save = "SaveToFile" nocase fullword
        $run1 = /\.(Run|Exec|ShellExecute) {0,9}[\(" ]/ nocase
        $host1 = "WScript.Shell" nocase
        $host2 = "Shell.Application" nocase
    condition:
        $object and any of ($fetch*) and $save and $run1 and any of ($host*) and filesize < 4MB
}

rule html_smuggles_file
{
    meta:
        name = "Heuristics.HTML.SmugglesFile"
        description = "A page that puts a file together out of its own text and saves it without being asked"
    strings:
        $tag = /<(script|svg|html)[ >]/ nocase
        $decode1 = "atob(" fullword
        $decode2 = "Uint8Array(" fullword
        $blob = /new {1,9}Blob {0,9}\(/
        $save1 = /msSave(OrOpen)?Blob {0,9}\(/
        $save2 = /\.download {0,9}=/
        $save3 = /setAttribute {0,9}\( {0,9}['"]download['"]/
        $url = "createObjectURL" fullword
        $click = /\.(click {0,9}\(|dispatchEvent {0,9}\()/
        $file = /["'`](TVqQ|TVoA|TVpQ|UEsD|UmFyI|N3q8|Q0QwMDE|0M8R4|aHR0cDov|[A-Za-z0-9+\/]{4000})/
    condition:
        $tag and any of ($decode*) and $blob and $file
        and ($save1 or ($url and $click and ($save2 or $save3))) and filesize < 32MB
}

rule onenote_carries_program
{
    meta:
        name = "Heuristics.OneNote.CarriesProgram"
        description = "A OneNote section with an embedded program, script or shortcut"
    strings:
        // FileDataStoreObject (MS-ONESTORE 2.6.13): its GUID, 8 octets of length, 12 unused, then the file itself
        $program = { e7 16 e3 bd 65 26 11 45 a4 c4 8d 4d 0b 7a 9e ac [20] 4d 5a }
        $shortcut = { e7 16 e3 bd 65 26 11 45 a4 c4 8d 4d 0b 7a 9e ac [20] 4c 00 00 00 01 14 02 00 }
        $file = { e7 16 e3 bd 65 26 11 45 a4 c4 8d 4d 0b 7a 9e ac }
        $script1 = "<script" nocase
        $script2 = "<hta:application" nocase
        $script3 = "@echo off" nocase
        $script4 = "WScript." nocase
        $script5 = "powershell" nocase
        $script6 = "<job id" nocase
    condition:
        uint32be(0) == 0xe4525c7b and uint32be(4) == 0x8cd8a74d
        and ($program or $shortcut or ($file and any of ($script*)))
}

rule rtf_equation_object
{
    meta:
        name = "Heuristics.RTF.EquationObject"
        description = "An RTF document that makes Word load the Equation Editor object by itself (CVE-2017-11882)"
    strings:
        $data = "\\objdata" nocase
        $class = "4571756174696f6e2e33" nocase  // "Equation.3" in the hexadecimal of an embedded object
        $id = "02ce020000000000c000000000000046" nocase  // its class id
        $update = "\\objupdate"
    condition:
        uint32be(0) == 0x7b5c7274 and $data and $update and ($class or $id)
}

rule rtf_fetches_object
{
    meta:
        name = "Heuristics.RTF.FetchesObject"
        description = "An RTF document that makes Word fetch and run an object by a URL moniker (CVE-2017-0199)"
    strings:
        $data = "\\objdata" nocase
        $link = /\\obj(autlink|update)/
        $moniker = "e0c9ea79f9bace118c8200aa004ba90b" nocase
    condition:
        uint32be(0) == 0x7b5c7274 and $data and $link and $moniker
}
