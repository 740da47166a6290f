// What all kernels share. No CUDA header is included: NVRTC finds none on a machine that has a driver only.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE static __device__ __forceinline__
#define DEVICE_MEMBER __device__ __forceinline__
#define NEG_INF __int_as_float(0xff800000)

// Kernels of a tick follow each other so closely that their starts overlap: the next may begin once all blocks of this one have said so, and
// waits here until this one has written everything. Nothing that another kernel writes is touched before.
DEVICE void let_next_begin() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

DEVICE void await_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

DEVICE void begin() {
    let_next_begin();
    await_previous();
}

DEVICE float bf16_to_f32(u16 x) { return __uint_as_float(((u32)x) << 16); }

// Two floats to two bf16, `lo` in the low half; rounds to nearest even.
DEVICE u32 pack_bf16(float lo, float hi) {
    u32 out;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(hi), "f"(lo));
    return out;
}

DEVICE u16 f32_to_bf16(float x) { return (u16)pack_bf16(x, 0.0f); }

DEVICE u32 pack_f16(float lo, float hi) {
    u32 out;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(hi), "f"(lo));
    return out;
}

DEVICE u16 f32_to_f16(float x) {
    u16 out;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out) : "f"(x));
    return out;
}

DEVICE float f16_to_f32(u16 x) {
    float out;
    asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(x));
    return out;
}

DEVICE float exp2_fast(float x) {
    float out;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
    return out;
}

// d += a b: a [16, 16], b [16, 8]. Lane l holds of a: rows l/4 and l/4 + 8, columns 2 (l%4) + {0, 1} and 8 more; of b: column l/4,
// rows 2 (l%4) + {0, 1} and 8 more; of d: rows l/4 and l/4 + 8, columns 2 (l%4) + {0, 1}.
DEVICE void mma_bf16(float (&d)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

DEVICE void mma_f16(float (&d)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

DEVICE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

DEVICE void copy_async_16(u32 to, const void* from) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

DEVICE void copy_async_8(u32 to, const void* from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(to), "l"(from) : "memory");
}

DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int N>
DEVICE void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

DEVICE float added(float a, float b) { return a + b; }
DEVICE float2 added(float2 a, float2 b) { return make_float2(a.x + b.x, a.y + b.y); }
DEVICE float shuffled(float x, int o) { return __shfl_xor_sync(0xffffffff, x, o); }
DEVICE float2 shuffled(float2 x, int o) { return make_float2(shuffled(x.x, o), shuffled(x.y, o)); }

// Sum over the block, the same in all threads; the order of additions depends on the size of the block alone.
// `scratch`: 33 of them. Barriers inside.
template <typename T>
DEVICE T block_sum(T x, T* scratch) {
    for (int o = 16; o > 0; o >>= 1) x = added(x, shuffled(x, o));
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, warps = blockDim.x >> 5;
    if (lane == 0) scratch[warp] = x;
    __syncthreads();
    if (warp == 0) {
        T y = lane < warps ? scratch[lane] : T();
        for (int o = 16; o > 0; o >>= 1) y = added(y, shuffled(y, o));
        if (lane == 0) scratch[32] = y;
    }
    __syncthreads();
    T sum = scratch[32];
    __syncthreads();
    return sum;
}

DEVICE float warp_sum(float x) {
    for (int o = 16; o > 0; o >>= 1) x += __shfl_xor_sync(0xffffffff, x, o);
    return x;
}

DEVICE float warp_max(float x) {
    for (int o = 16; o > 0; o >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, o));
    return x;
}

// Counter-based pseudo-random bits: element `i` of the stream `seed`.
DEVICE u32 hash_bits(u64 seed, u64 i) {
    u64 z = seed + (i + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (u32)(z >> 32);
}
