/* The linked blob as bytes; BLOB_BIN is the build's path to it. */
	.section .rodata
	.globl vmad_blob_start
	.hidden vmad_blob_start
	.globl vmad_blob_stop
	.hidden vmad_blob_stop
	.balign 16
vmad_blob_start:
	.incbin BLOB_BIN
vmad_blob_stop:
	.section .note.GNU-stack, "", @progbits
