/*
 * The first byte of the blob. Called (self.c) or jumped to (bpinit, with rip set
 * to the start of the mapping) with rdi = struct blob. Nothing is written to the
 * stack it came on: under it may be the red zone of whoever was interrupted.
 * Returns rax = the verb's result and rdx = base of this mapping.
 */
#define BLOB_CODE_MAX 0x18000 /* as in blob.h; the C side asserts both */
#define BLOB_STACK_TOP 0xd000

	.section .entry, "ax", @progbits
	.globl blob_entry
	.type blob_entry, @function
blob_entry:
	mov	%rsp, %rax
	lea	BLOB_STACK_TOP(%rdi), %rsp
	cld
	push	%rax
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	sub	$8, %rsp
	xor	%ebp, %ebp
	call	blob_main
	add	$8, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	pop	%rsp
	lea	blob_entry(%rip), %rdx
	ret

/* blob_sigreturn(rdi = struct ucontext): where the kernel looks for it is rsp. */
	.text
	.globl blob_sigreturn
	.type blob_sigreturn, @function
blob_sigreturn:
	mov	%rdi, %rsp
	mov	$15, %eax
	syscall
	ud2
	.section .note.GNU-stack, "", @progbits
