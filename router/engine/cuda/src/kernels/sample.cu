// From logits to tokens.

struct Argmax {
    // [rows][vocabulary]
    const float* logits;
    // {token, its logit as bits, second token, its logit}
    uint4* out;
    int vocabulary;
};

DEVICE bool before(float a, u32 i, float b, u32 j) { return a > b || (a == b && i < j); }

// The two largest logits of a row, of equal ones the lower token; NaN is passed over. Token 2^32 - 1: there is none. Grid: rows.
extern "C" __global__ void __launch_bounds__(1024) argmax(const __grid_constant__ Argmax a) {
    begin();
    __shared__ float tops[2][32];
    __shared__ u32 tokens[2][32];
    const float* from = a.logits + (u64)blockIdx.x * a.vocabulary;
    float top[2] = {NEG_INF, NEG_INF};
    u32 token[2] = {0xffffffff, 0xffffffff};
    auto see = [&](float x, u32 i) {
        if (i != 0xffffffff && x > NEG_INF) {
            if (before(x, i, top[0], token[0])) {
                top[1] = top[0], token[1] = token[0];
                top[0] = x, token[0] = i;
            } else if (before(x, i, top[1], token[1])) {
                top[1] = x, token[1] = i;
            }
        }
    };
    for (int i = threadIdx.x; i < a.vocabulary; i += blockDim.x) see(from[i], i);
    for (int o = 16; o > 0; o >>= 1) {
        float x = __shfl_xor_sync(0xffffffff, top[0], o), y = __shfl_xor_sync(0xffffffff, top[1], o);
        u32 i = __shfl_xor_sync(0xffffffff, token[0], o), j = __shfl_xor_sync(0xffffffff, token[1], o);
        see(x, i), see(y, j);
    }
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    if (lane == 0)
        for (int i = 0; i < 2; i++) tops[i][warp] = top[i], tokens[i][warp] = token[i];
    __syncthreads();
    if (warp == 0) {
        for (int i = 0; i < 2; i++) top[i] = tops[i][lane], token[i] = tokens[i][lane];
        for (int o = 16; o > 0; o >>= 1) {
            float x = __shfl_xor_sync(0xffffffff, top[0], o), y = __shfl_xor_sync(0xffffffff, top[1], o);
            u32 i = __shfl_xor_sync(0xffffffff, token[0], o), j = __shfl_xor_sync(0xffffffff, token[1], o);
            see(x, i), see(y, j);
        }
        if (lane == 0) a.out[blockIdx.x] = make_uint4(token[0], __float_as_uint(top[0]), token[1], __float_as_uint(top[1]));
    }
}
