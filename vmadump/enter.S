/*
 * long vmad_enter(struct blob *b, void **ret_base): saves every general register
 * as it is for the caller, calls the blob, and returns what it returns. A copy
 * that was restored from the image comes back out of here too, at vmad_entered,
 * with rax and rdx set by the copy's own blob (blob_resume()). Offsets are those
 * of struct blob; self.c asserts them.
 */
#define REGS 0x50
#define BASE 0x08

	.text
	.globl vmad_enter
	.hidden vmad_enter
	.type vmad_enter, @function
vmad_enter:
	.cfi_startproc
	mov	%r15, REGS+0x00(%rdi)
	mov	%r14, REGS+0x08(%rdi)
	mov	%r13, REGS+0x10(%rdi)
	mov	%r12, REGS+0x18(%rdi)
	mov	%rbp, REGS+0x20(%rdi)
	mov	%rbx, REGS+0x28(%rdi)
	mov	%r11, REGS+0x30(%rdi)
	mov	%r10, REGS+0x38(%rdi)
	mov	%r9,  REGS+0x40(%rdi)
	mov	%r8,  REGS+0x48(%rdi)
	movq	$0,   REGS+0x50(%rdi)
	mov	%rcx, REGS+0x58(%rdi)
	mov	%rdx, REGS+0x60(%rdi)
	mov	%rsi, REGS+0x68(%rdi)
	mov	%rdi, REGS+0x70(%rdi)
	movq	$-1,  REGS+0x78(%rdi)
	lea	vmad_entered(%rip), %rax
	mov	%rax, REGS+0x80(%rdi)
	movq	$0x33, REGS+0x88(%rdi)
	pushf
	.cfi_adjust_cfa_offset 8
	pop	%rax
	.cfi_adjust_cfa_offset -8
	mov	%rax, REGS+0x90(%rdi)
	mov	%rsp, REGS+0x98(%rdi)
	movq	$0x2b, REGS+0xa0(%rdi)
	push	%rsi
	.cfi_adjust_cfa_offset 8
	call	*BASE(%rdi)
	pop	%rsi
	.cfi_adjust_cfa_offset -8
vmad_entered:
	mov	%rdx, (%rsi)
	ret
	.cfi_endproc
	.size vmad_enter, .-vmad_enter
	.section .note.GNU-stack, "", @progbits
