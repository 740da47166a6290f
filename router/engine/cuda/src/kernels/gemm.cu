// out[t][r] = sum over k of w[r][k] x[t][k]: weights of a few formats, activations in bf16, sums in f32.
//
// The weights are the left operand of the tensor cores (16 rows of them), the tokens the right one (8 at a time), so that one token wastes
// least. A block streams its rows through shared memory with asynchronous copies, several stages deep. Inner dimension in steps of 64.
//
// For one output the order of additions is the same in every kernel of this file, whatever the tile: k ascending in steps of 16. So a token's
// results do not depend on how many others there are.

#define STEP 64

// Formats of weights.
#define BF16 0
// [rows][k / 2] bytes, low nibble first; weight = scale * code + offset, a pair of f16 for each 32.
#define Q4 1
// [rows][k] bytes; the same for each 32 or 16.
#define Q8 2
// Codes of each 32 lie in the order in which a lane needs them: `place` in weights.rs.

struct Weights {
    const u8* codes;
    const u8* scales;
};

struct Gemm {
    // `second` (gate and up): rows come in turns of eight from both.
    Weights first, second;
    // From one group's matrix to the next, in bytes.
    u64 group_codes, group_scales;
    const u16* x;
    // Which row of x is row i; null: row i.
    const u32* index;
    // {group, first row, end, 0}, each for `blocks_of_tile` blocks; null: one group of `tokens` rows.
    const uint4* tiles;
    const u32* tile_count;
    float* out;
    const float* bias;
    int rows, k, tokens;
    // log2 of the weights that share a scale.
    int group_shift;
    // Elements from one token's output to the next, and from one token's x to the next.
    int out_pitch, x_pitch;
    // 1: adds to out instead of replacing it; 2: out is bf16, 3: f16.
    int how;
    int blocks_of_tile;
    // Without tiles, of a cluster.
    int cluster_tokens;
};

#define ADD 1
#define ROUND 2
#define HALF 3

template <int FORMAT>
struct Tile;

template <>
struct Tile<BF16> {
    static const int ROW = 128;
    static const int SCALE_ROW = 0;
};

template <>
struct Tile<Q4> {
    static const int ROW = 32;
    static const int SCALE_ROW = 8;
};

template <>
struct Tile<Q8> {
    static const int ROW = 64;
    static const int SCALE_ROW = 16;
};

// Place of 16 bytes of a row of 128: eight rows read at one unit hit all banks. The tensor cores' own swizzle of 128 bytes.
DEVICE u32 swizzled(int row, int unit) { return row * 128 + ((unit ^ (row & 7)) << 4); }

DEVICE u32 dequantised(float scale, float offset, u32 low, u32 high) {
    return pack_bf16(fmaf((float)low, scale, offset), fmaf((float)high, scale, offset));
}

DEVICE void load_matrices(u32 (&out)[4], u32 at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(at));
}

// Eight weights of a row as four pairs of bf16, k = 32 half + 2 t + {0, 1, 8, 9, 16, 17, 24, 25}.
template <int FORMAT>
DEVICE uint4 codes_at(const u8* codes, const u8* scales, int row, int half, int t, int group_shift) {
    uint4 out;
    u32 pairs[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int at = half * 32 + i * 16;
        pairs[i] = *(const u32*)(scales + row * Tile<FORMAT>::SCALE_ROW + ((at >> group_shift) << 2));
    }
    float scale = f16_to_f32((u16)pairs[0]), offset = f16_to_f32((u16)(pairs[0] >> 16));
    float scale_2 = f16_to_f32((u16)pairs[1]), offset_2 = f16_to_f32((u16)(pairs[1] >> 16));
    if (FORMAT == Q4) {
        u32 c = *(const u32*)(codes + row * 32 + half * 16 + t * 4);
        out.x = dequantised(scale, offset, c & 15, c >> 4 & 15);
        out.y = dequantised(scale, offset, c >> 8 & 15, c >> 12 & 15);
        out.z = dequantised(scale_2, offset_2, c >> 16 & 15, c >> 20 & 15);
        out.w = dequantised(scale_2, offset_2, c >> 24 & 15, c >> 28);
    } else {
        uint2 c = *(const uint2*)(codes + row * 64 + half * 32 + t * 8);
        out.x = dequantised(scale, offset, c.x & 255, c.x >> 8 & 255);
        out.y = dequantised(scale, offset, c.x >> 16 & 255, c.x >> 24);
        out.z = dequantised(scale_2, offset_2, c.y & 255, c.y >> 8 & 255);
        out.w = dequantised(scale_2, offset_2, c.y >> 16 & 255, c.y >> 24);
    }
    return out;
}

// 16 rows of weights from `row` on, k = 32 half .., as the left operand of two products of 16.
template <int FORMAT>
DEVICE void weights_at(u32 (&out)[2][4], const u8* codes, const u8* scales, int row, int half, int lane, int group_shift) {
    if (FORMAT == BF16) {
        int of = row + (lane & 15), unit = half * 4 + (lane >> 4);
        u32 base = shared_address(codes);
        load_matrices(out[0], base + swizzled(of, unit));
        load_matrices(out[1], base + swizzled(of, unit + 2));
    } else {
        int t = lane & 3, r = row + (lane >> 2);
        uint4 low = codes_at<FORMAT>(codes, scales, r, half, t, group_shift);
        uint4 high = codes_at<FORMAT>(codes, scales, r + 8, half, t, group_shift);
        out[0][0] = low.x, out[0][1] = high.x, out[0][2] = low.y, out[0][3] = high.y;
        out[1][0] = low.z, out[1][1] = high.z, out[1][2] = low.w, out[1][3] = high.w;
    }
}

// What a block computes.
struct Place {
    int group, first, count, row_0;
};

// The block `x` of rows and `y` of tokens.
DEVICE bool place_of(const Gemm& g, int bm, int bn, u32 x, u32 y, Place& p) {
    int end = g.tokens;
    p.group = 0, p.first = y * bn, p.row_0 = x * bm;
    if (g.tiles) {
        u32 at = y / g.blocks_of_tile;
        if (at >= *g.tile_count) return false;
        uint4 tile = g.tiles[at];
        p.group = tile.x, p.first = tile.y + y % g.blocks_of_tile * bn, end = tile.z;
    }
    p.count = min(end - p.first, bn);
    return p.count > 0;
}

// Row of a matrix that row `r` of all is.
template <bool PAIR>
DEVICE const u8* row_at(const Gemm& g, const u8* first, const u8* second, int r, u64 pitch) {
    if (PAIR) {
        int at = min((r >> 4) * 8 + (r & 7), (g.rows >> 1) - 1);
        return ((r & 8) ? second : first) + at * pitch;
    }
    return first + min(r, g.rows - 1) * pitch;
}

DEVICE float gated(float gate, float up) { return __fdividef(gate, 1.0f + __expf(-gate)) * up; }

// Stores what a lane has of 16 rows, `row` and `row + 8`, and of tokens 8 n + 2 t + {0, 1} from `token` on.
template <bool PAIR, int NT>
DEVICE void store(const Gemm& g, const Place& p, const float (&sum)[NT][4], int row, int token, int t) {
#pragma unroll
    for (int n = 0; n < NT; n++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int of = token + n * 8 + 2 * t + i;
            if (of >= p.count) continue;
            u64 at = (u64)(p.first + of) * g.out_pitch;
            if (PAIR) {
                int pair = (row >> 4) * 8 + (row & 7);
                if (pair * 2 < g.rows) {
                    ((u16*)g.out)[at + pair] = f32_to_bf16(gated(sum[n][i], sum[n][i + 2]));
                }
            } else {
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    int of_row = row + h * 8;
                    if (of_row < g.rows) {
                        float value = sum[n][i + 2 * h];
                        if (g.bias) value += g.bias[of_row];
                        if (g.how >= ROUND) {
                            ((u16*)g.out)[at + of_row] = g.how == HALF ? f32_to_f16(value) : f32_to_bf16(value);
                            continue;
                        }
                        if (g.how == ADD) value += g.out[at + of_row];
                        g.out[at + of_row] = value;
                    }
                }
            }
        }
    }
}

// ALL: products of tokens that are not there are computed too, which lets the compiler mix loads and products.
template <int FORMAT, bool PAIR, int WM, int WN, int MT, int NT, int STAGES, bool ALL>
DEVICE void gemm(const Gemm& g) {
    extern __shared__ __align__(128) u8 shared[];
    const int THREADS = WM * WN * 32;
    const int BM = WM * MT * 16, BN = WN * NT * 8;
    const int ROW = Tile<FORMAT>::ROW, SCALE_ROW = Tile<FORMAT>::SCALE_ROW;
    const int STAGE = BM * (ROW + SCALE_ROW) + BN * 128;
    const int UNITS = ROW / 16;
    const int W_COPIES = (BM * UNITS + THREADS - 1) / THREADS;
    const int X_COPIES = BN * 8 / THREADS;
    // Tiles of tokens whose loads are under way together.
    const int AT_ONCE = MT > 1 || NT < 4 ? 2 : 4;

    let_next_begin();
    // Which weights, only the routing before knows; without it they can be asked for at once.
    if (g.tiles) await_previous();
    Place p;
    if (!place_of(g, BM, BN, blockIdx.x, blockIdx.y, p)) return;
    int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    int warp_m = warp / WN, warp_n = warp % WN;

    // Where this thread's copies come from; they advance along k together.
    const u8* w_from[W_COPIES];
    u64 row_bytes = (u64)g.k * ROW / STEP;
#pragma unroll
    for (int i = 0; i < W_COPIES; i++) {
        int piece = tid + i * THREADS, row = piece / UNITS, unit = piece % UNITS;
        w_from[i] = row_at<PAIR>(g, g.first.codes, g.second.codes, p.row_0 + row, row_bytes) + p.group * g.group_codes + unit * 16;
    }
    const u16* x_from[X_COPIES];
#pragma unroll
    for (int i = 0; i < X_COPIES; i++) {
        int piece = tid + i * THREADS, row = piece >> 3, unit = piece & 7;
        u32 at = p.first + min(row, p.count - 1);
        if (g.index) at = g.index[at];
        x_from[i] = g.x + (u64)at * g.x_pitch + unit * 8;
    }
    const u8* s_from[(BM + THREADS - 1) / THREADS];
    const int S_COPIES = SCALE_ROW ? (BM + THREADS - 1) / THREADS : 0;
    int scale_step = (STEP >> g.group_shift) * 4;
#pragma unroll
    for (int i = 0; i < S_COPIES; i++) {
        int row = tid + i * THREADS;
        u64 pitch = (g.k >> g.group_shift) * 4;
        s_from[i] = row_at<PAIR>(g, g.first.scales, g.second.scales, p.row_0 + row, pitch) + p.group * g.group_scales;
    }

    u32 smem = shared_address(shared);
    int steps = g.k / STEP;
    auto load_weights = [&](int step) {
        u32 stage = smem + (step % STAGES) * STAGE;
#pragma unroll
        for (int i = 0; i < W_COPIES; i++) {
            int piece = tid + i * THREADS, row = piece / UNITS, unit = piece % UNITS;
            if (BM * UNITS % THREADS == 0 || row < BM) {
                u32 to = FORMAT == BF16 ? swizzled(row, unit) : row * ROW + unit * 16;
                copy_async_16(stage + to, w_from[i]);
                w_from[i] += ROW;
            }
        }
#pragma unroll
        for (int i = 0; i < S_COPIES; i++) {
            int row = tid + i * THREADS;
            if (BM % THREADS == 0 || row < BM) {
                u32 to = stage + BM * ROW + row * SCALE_ROW;
                if (scale_step == 16) copy_async_16(to, s_from[i]);
                else copy_async_8(to, s_from[i]);
                s_from[i] += scale_step;
            }
        }
    };
    auto load_tokens = [&](int step) {
        u32 stage = smem + (step % STAGES) * STAGE;
#pragma unroll
        for (int i = 0; i < X_COPIES; i++) {
            int piece = tid + i * THREADS, row = piece >> 3, unit = piece & 7;
            if (row < p.count) {
                copy_async_16(stage + BM * (ROW + SCALE_ROW) + swizzled(row, unit), x_from[i]);
                x_from[i] += STEP;
            }
        }
    };

    float sum[MT][NT][4];
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) sum[m][n][i] = 0.0f;

#pragma unroll
    for (int s = 0; s < STAGES - 1; s++)
        if (s < steps) load_weights(s);
    if (!g.tiles) await_previous();
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < steps) load_tokens(s);
        copy_commit();
    }
    for (int step = 0; step < steps; step++) {
        copy_wait<STAGES - 2>();
        __syncthreads();
        if (step + STAGES - 1 < steps) load_weights(step + STAGES - 1), load_tokens(step + STAGES - 1);
        copy_commit();
        const u8* stage = shared + (step % STAGES) * STAGE;
        const u8 *scales = stage + BM * ROW, *x = scales + BM * SCALE_ROW;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            u32 w[MT][2][4];
#pragma unroll
            for (int m = 0; m < MT; m++)
                weights_at<FORMAT>(w[m], stage, scales, (warp_m * MT + m) * 16, half, lane, g.group_shift);
#pragma unroll
            for (int n = 0; n < NT; n += AT_ONCE) {
                int token = (warp_n * NT + n) * 8;
                // No token there: nothing is stored, so nothing need be right.
                if (ALL || token < p.count) {
                    u32 v[AT_ONCE][4];
#pragma unroll
                    for (int j = 0; j < AT_ONCE; j++)
                        load_matrices(v[j], shared_address(x) + swizzled(token + j * 8 + (lane & 7), half * 4 + (lane >> 3)));
#pragma unroll
                    for (int j = 0; j < AT_ONCE; j++)
#pragma unroll
                        for (int m = 0; m < MT; m++) {
                            mma_bf16(sum[m][n + j], w[m][0][0], w[m][0][1], w[m][0][2], w[m][0][3], v[j][0], v[j][1]);
                            mma_bf16(sum[m][n + j], w[m][1][0], w[m][1][1], w[m][1][2], w[m][1][3], v[j][2], v[j][3]);
                        }
                }
            }
        }
    }
#pragma unroll
    for (int m = 0; m < MT; m++)
        store<PAIR, NT>(g, p, sum[m], p.row_0 + (warp_m * MT + m) * 16 + (lane >> 2), warp_n * NT * 8, lane & 3);
}

#define KERNEL(NAME, FORMAT, PAIR, WM, WN, MT, NT, STAGES, BLOCKS, ALL)                                    \
    extern "C" __global__ void __launch_bounds__(WM* WN * 32, BLOCKS) NAME(const __grid_constant__ Gemm g) { \
        gemm<FORMAT, PAIR, WM, WN, MT, NT, STAGES, ALL>(g);                                                  \
    }

// Few tokens and few rows, few tokens, some tokens and few rows, some tokens, many tokens.
#define KERNELS(FORMAT)                                              \
    KERNEL(gemm_narrow, FORMAT, false, 1, 1, 1, 2, NARROW, 2, false) \
    KERNEL(gemm_few, FORMAT, false, 4, 1, 1, 2, FEW, 2, false)       \
    KERNEL(gemm_slim, FORMAT, false, 1, 4, 1, 2, SLIM, 2, false)     \
    KERNEL(gemm_some, FORMAT, false, 4, 1, 1, 8, SOME, 2, false)     \
    KERNEL(gemm_many, FORMAT, false, 2, 2, 4, 8, MANY, 2, true)      \
    KERNEL(gated_narrow, FORMAT, true, 1, 1, 1, 2, NARROW, 2, false) \
    KERNEL(gated_few, FORMAT, true, 4, 1, 1, 2, FEW, 2, false)       \
    KERNEL(gated_slim, FORMAT, true, 1, 4, 1, 2, SLIM, 2, false)     \
    KERNEL(gated_some, FORMAT, true, 4, 1, 1, 8, SOME, 2, false)     \
    KERNEL(gated_many, FORMAT, true, 2, 2, 4, 8, MANY, 2, true)

KERNELS(FORMAT_OF_MODULE)
