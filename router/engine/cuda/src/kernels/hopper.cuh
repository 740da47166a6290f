// What kernels for Hopper share: barriers in shared memory, and its product of 64 rows at a time with operands from there.

DEVICE void barrier_init(u32 barrier, int count) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory"); }

// Once this thread's asynchronous copies are done.
DEVICE void barrier_arrive_copied(u32 barrier) { asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory"); }

DEVICE void barrier_wait(u32 barrier, int parity) {
    asm volatile(
        "{ .reg .pred p; AGAIN: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1; @p bra DONE; bra AGAIN; DONE: }" ::"r"(barrier), "r"(parity)
        : "memory");
}

// Rows of 64 k, 128 bytes, swizzled, in groups of eight 1,024 bytes apart.
DEVICE u64 descriptor(u32 at) { return (u64)((at & 0x3ffff) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62; }

#define L16(a) "%" #a "0,%" #a "1,%" #a "2,%" #a "3,%" #a "4,%" #a "5,%" #a "6,%" #a "7,%" #a "8,%" #a "9"
#define LIST_32 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9," L16(1) "," L16(2) ",%30,%31"
#define LIST_36 LIST_32 ",%32,%33,%34,%35"
#define LIST_40 LIST_36 ",%36,%37,%38,%39"
#define LIST_48 LIST_40 ",%40,%41,%42,%43,%44,%45,%46,%47"
#define LIST_60 LIST_48 ",%48,%49," L16(5)
#define LIST_64 LIST_60 ",%60,%61,%62,%63"
#define LIST_68 LIST_64 ",%64,%65,%66,%67"
#define LIST_72 LIST_68 ",%68,%69,%70,%71"
#define LIST_80 LIST_72 ",%72,%73,%74,%75,%76,%77,%78,%79"
#define D4(C, i) C(d[i][0]), C(d[i][1]), C(d[i][2]), C(d[i][3])
#define D_8(C) D4(C, 0), D4(C, 1), D4(C, 2), D4(C, 3), D4(C, 4), D4(C, 5), D4(C, 6), D4(C, 7)
#define D_9(C) D_8(C), D4(C, 8)
#define D_10(C) D_9(C), D4(C, 9)
#define D_12(C) D_10(C), D4(C, 10), D4(C, 11)
#define D_15(C) D_12(C), D4(C, 12), D4(C, 13), D4(C, 14)
#define D_16(C) D_15(C), D4(C, 15)
#define D_17(C) D_16(C), D4(C, 16)
#define D_18(C) D_17(C), D4(C, 17)
#define D_20(C) D_18(C), D4(C, 18), D4(C, 19)
