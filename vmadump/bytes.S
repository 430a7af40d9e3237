/*
 * The linked blob as bytes; BLOB_BIN is the build's path to it. It is copied, never moved to where
 * it runs: as long as a page of our program's file is mapped a restored process could not have
 * its own /proc/PID/exe (replace_mm_exe_file() of kernel/fork.c says EBUSY).
 */
	.section .rodata.vmad_blob, "a", @progbits
	.globl vmad_blob_start
	.hidden vmad_blob_start
	.globl vmad_blob_stop
	.hidden vmad_blob_stop
	.balign 64
vmad_blob_start:
	.incbin BLOB_BIN
vmad_blob_stop:
	.section .note.GNU-stack, "", @progbits
