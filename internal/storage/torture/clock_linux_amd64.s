//go:build torture

#include "textflag.h"

// What the process asks for the time: the system's function of before, and the shift that is added to what it says.
GLOBL ·system(SB), NOPTR, $8
GLOBL ·current(SB), NOPTR, $8

// moved stands in the place of the vDSO's clock_gettime(id, *timespec), and is called as that: by C's convention, on a stack of the system's, from
// anywhere in Go's runtime. It touches no register that such a function may not. Offsets are those of shift.
TEXT ·moved(SB), NOSPLIT|NOFRAME, $0-0
	CMPL  DI, $1
	JHI   other                 // neither CLOCK_REALTIME (0) nor CLOCK_MONOTONIC (1)
	SUBQ  $24, SP
	MOVL  DI, 0(SP)
	MOVQ  SI, 8(SP)
	MOVL  $1, DI
	MOVQ  ·system(SB), AX
	CALL  AX
	MOVQ  8(SP), SI
	MOVQ  0(SI), AX
	IMULQ $1000000000, AX
	ADDQ  8(SI), AX             // what the machine's clock has run
	MOVQ  ·current(SB), CX
	SUBQ  0(CX), AX
	IMULQ 16(CX), AX
	SARQ  $10, AX
	ADDQ  8(CX), AX
	CMPL  0(SP), $0
	JNE   split
	ADDQ  24(CX), AX

split:
	XORL DX, DX
	MOVQ $1000000000, CX
	DIVQ CX
	MOVQ AX, 0(SI)
	MOVQ DX, 8(SI)
	XORL AX, AX
	ADDQ $24, SP
	RET

other:
	MOVQ ·system(SB), AX
	JMP  AX

// func take(first *shift) bool
TEXT ·take(SB), NOSPLIT, $0-9
	MOVB  $0, ret+8(FP)
	MOVQ  runtime·vdsoClockgettimeSym(SB), AX
	TESTQ AX, AX
	JEQ   none
	MOVQ  first+0(FP), CX
	MOVQ  CX, ·current(SB)
	MOVQ  AX, ·system(SB)
	LEAQ  ·moved(SB), AX
	MOVQ  AX, runtime·vdsoClockgettimeSym(SB)
	MOVB  $1, ret+8(FP)

none:
	RET

// func follow(next *shift)
TEXT ·follow(SB), NOSPLIT, $0-8
	MOVQ next+0(FP), AX
	XCHGQ AX, ·current(SB)
	RET
