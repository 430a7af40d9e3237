/*
 * A program without a libc: 400 lines "tick", 5 ms apart, then "asm ok". It keeps its count in
 * a register and its state on no stack but the kernel's.
 */
	.section .rodata
tick:	.ascii "tick\n"
done:	.ascii "asm ok\n"
pause:	.quad 0, 5000000

	.text
	.globl _start
_start:
	mov	$400, %r12d
	mov	$0x0123456789abcdef, %r13
	movq	%r13, %xmm7
1:	mov	$1, %eax
	mov	$1, %edi
	lea	tick(%rip), %rsi
	mov	$5, %edx
	syscall
	mov	$35, %eax /* nanosleep */
	lea	pause(%rip), %rdi
	xor	%esi, %esi
	syscall
	test	%rax, %rax
	jnz	2f
	movq	%xmm7, %rax
	cmp	%r13, %rax
	jne	2f
	dec	%r12d
	jnz	1b
	mov	$1, %eax
	mov	$1, %edi
	lea	done(%rip), %rsi
	mov	$7, %edx
	syscall
	xor	%edi, %edi
	jmp	3f
2:	mov	$1, %edi
3:	mov	$60, %eax
	syscall
	.section .note.GNU-stack, "", @progbits
