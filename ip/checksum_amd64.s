#include "textflag.h"

// Each 64-bit lane of Y0-Y3 collects the lower, of Y4-Y7 the upper 32-bit
// words: no carry is lost below 2^32 additions. Y15 masks the lower words.

// Y8-Y11 hold a block of 128 bytes.
#define ADDBLOCK \
	VPSRLQ $32, Y8, Y12  \
	VPSRLQ $32, Y9, Y13  \
	VPSRLQ $32, Y10, Y14 \
	VPADDQ Y12, Y4, Y4   \
	VPADDQ Y13, Y5, Y5   \
	VPADDQ Y14, Y6, Y6   \
	VPSRLQ $32, Y11, Y12 \
	VPAND  Y15, Y8, Y8   \
	VPAND  Y15, Y9, Y9   \
	VPAND  Y15, Y10, Y10 \
	VPAND  Y15, Y11, Y11 \
	VPADDQ Y12, Y7, Y7   \
	VPADDQ Y8, Y0, Y0    \
	VPADDQ Y9, Y1, Y1    \
	VPADDQ Y10, Y2, Y2   \
	VPADDQ Y11, Y3, Y3

// Y8 holds a block of 32 bytes.
#define ADDSMALL \
	VPSRLQ $32, Y8, Y12 \
	VPAND  Y15, Y8, Y8  \
	VPADDQ Y12, Y4, Y4  \
	VPADDQ Y8, Y0, Y0

#define START \
	VPXOR    Y0, Y0, Y0  \
	VPXOR    Y1, Y1, Y1  \
	VPXOR    Y2, Y2, Y2  \
	VPXOR    Y3, Y3, Y3  \
	VPXOR    Y4, Y4, Y4  \
	VPXOR    Y5, Y5, Y5  \
	VPXOR    Y6, Y6, Y6  \
	VPXOR    Y7, Y7, Y7  \
	VPCMPEQD Y15, Y15, Y15 \
	VPSRLQ   $32, Y15, Y15

// Adds all lanes up in AX.
#define FINISH \
	VPADDQ       Y1, Y0, Y0 \
	VPADDQ       Y3, Y2, Y2 \
	VPADDQ       Y5, Y4, Y4 \
	VPADDQ       Y7, Y6, Y6 \
	VPADDQ       Y2, Y0, Y0 \
	VPADDQ       Y6, Y4, Y4 \
	VPADDQ       Y4, Y0, Y0 \
	VEXTRACTI128 $1, Y0, X1 \
	VPADDQ       X1, X0, X0 \
	VPSRLDQ      $8, X0, X1 \
	VPADDQ       X1, X0, X0 \
	VMOVQ        X0, AX     \
	VZEROUPPER

// func sumAVX2(src *byte, n int) uint64
TEXT ·sumAVX2(SB), NOSPLIT, $0-24
	MOVQ src+0(FP), SI
	MOVQ n+8(FP), CX
	START
	SUBQ $128, CX

sum:
	VMOVDQU 0(SI), Y8
	VMOVDQU 32(SI), Y9
	VMOVDQU 64(SI), Y10
	VMOVDQU 96(SI), Y11
	ADDBLOCK
	ADDQ    $128, SI
	SUBQ    $128, CX
	JGE     sum
	ADDQ    $128, CX
	JZ      done

small:
	VMOVDQU 0(SI), Y8
	ADDSMALL
	ADDQ    $32, SI
	SUBQ    $32, CX
	JNZ     small

done:
	FINISH
	MOVQ AX, ret+16(FP)
	RET

// func copyAVX2(dst, src *byte, n int) uint64
TEXT ·copyAVX2(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	START
	SUBQ $128, CX

copy:
	VMOVDQU 0(SI), Y8
	VMOVDQU 32(SI), Y9
	VMOVDQU 64(SI), Y10
	VMOVDQU 96(SI), Y11
	VMOVDQU Y8, 0(DI)
	VMOVDQU Y9, 32(DI)
	VMOVDQU Y10, 64(DI)
	VMOVDQU Y11, 96(DI)
	ADDBLOCK
	ADDQ    $128, SI
	ADDQ    $128, DI
	SUBQ    $128, CX
	JGE     copy
	ADDQ    $128, CX
	JZ      done

small:
	VMOVDQU 0(SI), Y8
	VMOVDQU Y8, 0(DI)
	ADDSMALL
	ADDQ    $32, SI
	ADDQ    $32, DI
	SUBQ    $32, CX
	JNZ     small

done:
	FINISH
	MOVQ AX, ret+24(FP)
	RET
