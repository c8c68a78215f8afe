/*
 * builtin - the rule that is always right. Patterns are written in hexadecimal where plain text would make virus
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
