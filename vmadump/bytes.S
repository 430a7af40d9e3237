/*
 * The linked blob as bytes; BLOB_BIN is the build's path to it. Whole pages of its own: who
 * needs it nowhere else can move them (vmad_blob_map_own()).
 */
	.section .rodata.vmad_blob, "a", @progbits
	.globl vmad_blob_start
	.hidden vmad_blob_start
	.globl vmad_blob_stop
	.hidden vmad_blob_stop
	.balign 4096
vmad_blob_start:
	.incbin BLOB_BIN
vmad_blob_stop:
	.balign 4096
	.section .note.GNU-stack, "", @progbits
