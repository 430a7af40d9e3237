/*
 * The first byte of the blob. Called (self.c) or jumped to (bpinit, with rip set
 * to the start of the mapping) with rdi = struct blob. Nothing is written to the
 * stack it came on: under it may be the red zone of whoever was interrupted.
 * Returns rax = the verb's result and rdx = base of this mapping.
 */
#define BLOB_CODE_MAX 0x24000 /* as in blob.h; the C side asserts both */
#define BLOB_STACK_TOP 0xd000
#define BLOB_THREAD_ENTRY 0x60

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

/* Where another thread comes in, rdi = struct blob_thread; it never returns. */
	.org BLOB_THREAD_ENTRY
	.globl blob_thread_entry
	.type blob_thread_entry, @function
blob_thread_entry:
	mov	8(%rdi), %rsp
	cld
	xor	%ebp, %ebp
	call	blob_thread_main
	ud2

/* blob_sigreturn(rdi = struct ucontext): where the kernel looks for it is rsp. */
	.text
	.globl blob_sigreturn
	.type blob_sigreturn, @function
blob_sigreturn:
	mov	%rdi, %rsp
	mov	$15, %eax
	syscall
	ud2

/*
 * long blob_clone_thread(struct clone_args *, size_t, struct blob_thread *): clone3();
 * the new thread goes where a thread comes in. The kernel keeps rdx.
 */
	.globl blob_clone_thread
	.type blob_clone_thread, @function
blob_clone_thread:
	mov	$435, %eax
	syscall
	test	%rax, %rax
	jnz	1f
	mov	%rdx, %rdi
	jmp	blob_thread_entry
1:	ret
	.section .note.GNU-stack, "", @progbits
