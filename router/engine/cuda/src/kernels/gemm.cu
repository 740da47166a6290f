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

#ifdef WARPGROUPS
// Many tokens on Hopper: its own instruction for 64 rows and up to 160 tokens, operands from shared memory. Two blocks that have the same
// weights and different tokens are a cluster: each fetches half of the weights for both. In a block a warpgroup fetches and two multiply.
// As many clusters as there is room for go through all tiles, so that fetching never waits for a tile's end.

// Of a block, at most.
#define MOST_TOKENS 160
#define W_BYTES (256 * 128)
#define MOST_STAGE (W_BYTES + MOST_TOKENS * 128)

// d = a b, or d += a b, for NT times 8 tokens. A, B: the numbers of the last two operands.
#define GROUP_MULTIPLY(NT, N, LIST, A, B)                                                                                        \
    DEVICE void group_multiply(float (&d)[NT][4], u64 a, u64 b) {                                                               \
        asm volatile("{ .reg .pred p; setp.ne.b32 p, 0, 0; wgmma.mma_async.sync.aligned.m64n" N "k16.f32.bf16.bf16 {" LIST     \
                     "}, " A ", " B ", p, 1, 1, 0, 0; }"                                                                        \
                     : D_##NT("=f")                                                                                             \
                     : "l"(a), "l"(b));                                                                                         \
    }                                                                                                                           \
    DEVICE void group_add(float (&d)[NT][4], u64 a, u64 b) {                                                                    \
        asm volatile("wgmma.mma_async.sync.aligned.m64n" N "k16.f32.bf16.bf16 {" LIST "}, " A ", " B ", 1, 1, 1, 0, 0;" \
                     : D_##NT("+f")                                                                                             \
                     : "l"(a), "l"(b));                                                                                         \
    }
GROUP_MULTIPLY(8, "64", LIST_32, "%32", "%33")
GROUP_MULTIPLY(10, "80", LIST_40, "%40", "%41")
GROUP_MULTIPLY(12, "96", LIST_48, "%48", "%49")
GROUP_MULTIPLY(15, "120", LIST_60, "%60", "%61")
GROUP_MULTIPLY(16, "128", LIST_64, "%64", "%65")
GROUP_MULTIPLY(17, "136", LIST_68, "%68", "%69")
GROUP_MULTIPLY(18, "144", LIST_72, "%72", "%73")
GROUP_MULTIPLY(20, "160", LIST_80, "%80", "%81")

// A matrix as the copy engine reads it, [groups][rows][k] in boxes of 64 rows and 64 k: what the driver's cuTensorMapEncodeTiled makes.
struct alignas(128) TensorMap {
    u64 opaque[16];
};

DEVICE void barrier_expect(u32 barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// At the same barrier of a block of the cluster.
DEVICE void barrier_arrive_at(u32 barrier, int block) {
    asm volatile(
        "{ .reg .b32 there; mapa.shared::cluster.u32 there, %0, %1; mbarrier.arrive.shared::cluster.b64 _, [there]; }" ::"r"(barrier), "r"(block)
        : "memory");
}

// To the same place of both blocks, each of whose barriers counts the bytes.
DEVICE void copy_box(u32 to, const TensorMap* map, int k, int row, int group, u32 barrier) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(to),
        "l"(map), "r"(barrier), "r"(k), "r"(row), "r"(group), "h"((u16)3)
        : "memory");
}

DEVICE void cluster_arrive() { asm volatile("barrier.cluster.arrive.release;" ::: "memory"); }
DEVICE void cluster_wait() { asm volatile("barrier.cluster.wait.acquire;" ::: "memory"); }
// Of the warps that multiply.
DEVICE void multipliers_sync() { asm volatile("bar.sync 1, 256;" ::: "memory"); }

DEVICE void store_matrices(u32 at, u32 a, u32 b, u32 c, u32 d) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
}

// Behind the stages lie barriers, `full` for 128 threads' copies of tokens and the bytes of weights, `empty` for the 16 warps that read, and
// room for the outcome of 32 tokens.
template <int STAGES>
DEVICE u32 full_of(u32 smem, int step) {
    return smem + STAGES * MOST_STAGE + step % STAGES * 8;
}
template <int STAGES>
DEVICE u32 empty_of(u32 smem, int step) {
    return full_of<STAGES>(smem, step) + STAGES * 8;
}

// What a cluster goes through: item by item, tiles of tokens outside, blocks of rows inside.
struct Items {
    int row_blocks, count;

    DEVICE_MEMBER Items(const Gemm& g) {
        row_blocks = (g.rows + 255) / 256;
        count = row_blocks * (g.tiles ? *g.tile_count : (g.tokens + g.cluster_tokens - 1) / g.cluster_tokens);
    }

    // Each of two blocks has half of the tokens.
    DEVICE_MEMBER Place place(const Gemm& g, int item, int rank) const {
        Place p;
        place_of(g, 256, g.tiles ? 2 * MOST_TOKENS : g.cluster_tokens, item % row_blocks, item / row_blocks, p);
        int half = ((p.count + 1) / 2 + 7) & ~7;
        p.first += rank * half;
        p.count = rank == 0 ? min(half, p.count) : max(p.count - half, 0);
        return p;
    }
};

// A block has 256 rows: of the matrix, or 128 of each of gate and up. A warpgroup has two boxes of 64 of them: of a pair the same 64 of both.
// `done`: steps of earlier items.
template <bool PAIR, int STAGES>
DEVICE void fetch(const Gemm& g, const TensorMap* first, const TensorMap* second, const Place& p, int rank, u32 smem, int done) {
    const int ROWS = MOST_TOKENS / 16;
    int tid = threadIdx.x, unit = tid & 7;
    // In units of 16 bytes.
    u32 from[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        int row = (tid >> 3) + i * 16;
        u32 at = p.first + row;
        if (row >= p.count) at = 0;
        else if (g.index) at = g.index[at];
        from[i] = at * (g.x_pitch / 8) + unit;
    }
    u32 place = swizzled(tid >> 3, unit);
    int steps = g.k / STEP;
    for (int step = 0; step < steps; step++) {
        int at = done + step;
        u32 full = full_of<STAGES>(smem, at), to = smem + at % STAGES * MOST_STAGE;
        if (at >= STAGES) barrier_wait(empty_of<STAGES>(smem, at), (at / STAGES - 1) & 1);
        if (tid == 0) {
            barrier_expect(full, W_BYTES);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                int box = rank * 2 + i;
                const TensorMap* map = PAIR && i == 1 ? second : first;
                copy_box(to + box * 8192, map, step * STEP, PAIR ? p.row_0 / 2 + rank * 64 : p.row_0 + box * 64, p.group, full);
            }
        }
        // 16 rows further the swizzle is the same. Of rows that are not there nothing is stored, so nothing need be right.
#pragma unroll
        for (int i = 0; i < ROWS; i++)
            if ((tid >> 3) + i * 16 < p.count)
                copy_async_16(to + W_BYTES + place + i * 2048, (const uint4*)g.x + from[i] + step * (STEP / 8));
        barrier_arrive_copied(full);
    }
}

// Queues the products of a step.
template <int STAGES, int NT, bool FIRST>
DEVICE void multiply_step(u32 smem, int at, int warp, float (&sum)[2][NT][4]) {
    barrier_wait(full_of<STAGES>(smem, at), (at / STAGES) & 1);
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    u32 stage = smem + at % STAGES * MOST_STAGE, w = stage + (warp >> 2) * 128 * 128, x = stage + W_BYTES;
    __syncwarp();
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
    for (int k = 0; k < STEP / 16; k++) {
        u64 a[2] = {descriptor(w + k * 32), descriptor(w + 64 * 128 + k * 32)}, b = descriptor(x + k * 32);
#pragma unroll
        for (int m = 0; m < 2; m++) {
            if (FIRST && k == 0) group_multiply(sum[m], a[m], b);
            else group_add(sum[m], a[m], b);
        }
    }
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Token by token in shared memory, and from there to `out` in whole lines, 16 tokens at a time.
template <int STAGES, int NT>
DEVICE void store_floats(const Gemm& g, const Place& p, const float (&sum)[2][NT][4], u8* shared, int of_group, int tid, int lane) {
    const int PITCH = 256 * 4 + 16;
    int t = lane & 3, r = lane >> 2;
    u8* stage = shared + STAGES * MOST_STAGE + STAGES * 16;
    // A thread's four numbers of each fourth token.
    int row = tid % 64 * 4, first = tid / 64;
    bool in = p.row_0 + row < g.rows;
    // Where four are side by side in `out` as well.
    bool fours = g.rows % 4 == 0 && g.out_pitch % 4 == 0;
    float* out = g.out + (u64)p.first * g.out_pitch + p.row_0 + row;
    // x + -0 is x, for 0 and -0 too.
    float bias[4] = {-0.0f, -0.0f, -0.0f, -0.0f};
    if (g.bias)
#pragma unroll
        for (int i = 0; i < 4; i++) bias[i] = g.bias[min(p.row_0 + row + i, g.rows - 1)];
    // What is there before is asked for a turn ahead, where there are registers for it.
    const bool EARLY = NT <= 16;
    float4 before[2][4];
    auto look = [&](int n_0) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int token = n_0 * 8 + first + i * 4;
            float4& v = before[n_0 / 2 & 1][i];
            v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (g.how == ADD && fours && in && token < p.count) v = *(const float4*)(out + (u64)token * g.out_pitch);
        }
    };
    if (EARLY) look(0);
#pragma unroll
    for (int n_0 = 0; n_0 < NT; n_0 += 2) {
        if (n_0 * 8 >= p.count) continue;
        if (!EARLY) look(n_0);
        else if (n_0 + 2 < NT) look(n_0 + 2);
        multipliers_sync();
#pragma unroll
        for (int m = 0; m < 2; m++)
#pragma unroll
            for (int n = 0; n < 2; n++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    *(float*)(stage + (n * 8 + 2 * t + (i & 1)) * PITCH + (of_group + m * 64 + r + (i >> 1) * 8) * 4) = sum[m][n_0 + n < NT ? n_0 + n : n_0][i];
        multipliers_sync();
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int token = n_0 * 8 + first + i * 4;
            if (!in || token >= p.count) continue;
            float4 v = *(const float4*)(stage + (first + i * 4) * PITCH + row * 4);
            v.x += bias[0], v.y += bias[1], v.z += bias[2], v.w += bias[3];
            float* to = out + (u64)token * g.out_pitch;
            const float4& was = before[n_0 / 2 & 1][i];
            if (fours) {
                if (g.how == ADD) v.x += was.x, v.y += was.y, v.z += was.z, v.w += was.w;
                *(float4*)to = v;
            } else {
                float all[4] = {v.x, v.y, v.z, v.w};
                for (int j = 0; j < 4 && p.row_0 + row + j < g.rows; j++) to[j] = g.how == ADD ? all[j] + to[j] : all[j];
            }
        }
    }
}

// To halves. What a warp has of some tokens goes through memory of its own, and from there to `out` in sectors of 32 bytes: no warp waits for
// another.
template <bool PAIR, int STAGES, int NT>
DEVICE void store_halves(const Gemm& g, const Place& p, const float (&sum)[2][NT][4], u32 smem, const u8* shared, int warp, int lane) {
    // Sixteen rows of a box are two units of 16 bytes.
    const int BOXES = PAIR ? 1 : 2, UNITS = BOXES * 2, PITCH = UNITS * 16 + 16, TILES = 4 / BOXES;
    const int at = STAGES * MOST_STAGE + STAGES * 16 + warp * TILES * 8 * PITCH;
    int row_0 = PAIR ? p.row_0 / 2 + (warp >> 2) * 64 : p.row_0 + (warp >> 2) * 128, rows = PAIR ? g.rows / 2 : g.rows;
    row_0 += (warp & 3) * 16;
    // x + -0 is x, for 0 and -0 too.
    float bias[BOXES][2];
#pragma unroll
    for (int m = 0; m < BOXES; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) bias[m][h] = !PAIR && g.bias ? g.bias[min(row_0 + m * 64 + (lane >> 2) + 8 * h, g.rows - 1)] : -0.0f;
    u32 to = smem + at + ((lane >> 4) * 8 + (lane & 7)) * PITCH + (lane >> 3 & 1) * 16;
    int token = lane / UNITS, unit = lane % UNITS, row = row_0 + unit / 2 * 64 + unit % 2 * 8;
    const u8* from = shared + at + token * PITCH + unit * 16;
    u16* out = (u16*)g.out + (u64)(p.first + token) * g.out_pitch + row;
#pragma unroll
    for (int n_0 = 0; n_0 < NT; n_0 += TILES) {
        if (n_0 * 8 >= p.count) continue;
        __syncwarp();
#pragma unroll
        for (int m = 0; m < BOXES; m++)
#pragma unroll
            for (int n = n_0; n < n_0 + TILES && n < NT; n += 2) {
                u32 v[4];
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const int of = n + i / 2 < NT ? n + i / 2 : n, half = i % 2;
                    const float *a = &sum[m][of][half * 2], *up = &sum[1][of][half * 2];
                    if (PAIR) v[i] = pack_bf16(gated(a[0], up[0]), gated(a[1], up[1]));
                    else if (g.how == HALF) v[i] = pack_f16(a[0] + bias[m][half], a[1] + bias[m][half]);
                    else v[i] = pack_bf16(a[0] + bias[m][half], a[1] + bias[m][half]);
                }
                store_matrices(to + (n - n_0) * 8 * PITCH + m * 32, v[0], v[1], v[2], v[3]);
            }
        __syncwarp();
#pragma unroll
        for (int i = 0; i < TILES * 8 * UNITS; i += 32) {
            int further = n_0 * 8 + i / UNITS;
            if (token + further < p.count && row < rows) *(uint4*)(out + (u64)further * g.out_pitch) = *(const uint4*)(from + i / UNITS * PITCH);
        }
    }
}

template <bool PAIR, int STAGES, int NT>
DEVICE void multiply_of_cluster(const Gemm& g, const Place& p, u8* shared, int done) {
    int tid = threadIdx.x - 128, lane = tid & 31, warp = tid >> 5;
    u32 smem = shared_address(shared);
    int steps = g.k / STEP;
    // The first product sets them: setting them here would make the compiler wait for each product.
    float sum[2][NT][4];
    multiply_step<STAGES, NT, true>(smem, done, warp, sum);
    for (int step = 1; step < steps; step++) {
        multiply_step<STAGES, NT, false>(smem, done + step, warp, sum);
        asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
        if (lane < 2) barrier_arrive_at(empty_of<STAGES>(smem, done + step - 1), lane);
    }
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    if (lane < 2) barrier_arrive_at(empty_of<STAGES>(smem, done + steps - 1), lane);
    if (!PAIR && g.how < ROUND) {
        store_floats<STAGES, NT>(g, p, sum, shared, (warp >> 2) * 128 + (warp & 3) * 16, tid, lane);
        return;
    }
    store_halves<PAIR, STAGES, NT>(g, p, sum, smem, shared, warp, lane);
}

// Grid: two blocks for each cluster.
template <bool PAIR, int STAGES>
DEVICE void gemm_of_groups(const Gemm& g, const TensorMap* first, const TensorMap* second) {
    extern __shared__ __align__(1024) u8 shared[];
    int rank = blockIdx.x & 1;
    u32 smem = shared_address(shared);
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) barrier_init(full_of<STAGES>(smem, s), 129), barrier_init(empty_of<STAGES>(smem, s), 16);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    cluster_arrive();
    cluster_wait();
    begin();
    Items items(g);
    int steps = g.k / STEP, done = 0;
    if (threadIdx.x < 128) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 56;");
        for (int item = blockIdx.x / 2; item < items.count; item += gridDim.x / 2, done += steps)
            fetch<PAIR, STAGES>(g, first, second, items.place(g, item, rank), rank, smem, done);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 224;");
        for (int item = blockIdx.x / 2; item < items.count; item += gridDim.x / 2, done += steps) {
            Place p = items.place(g, item, rank);
            if (p.count <= 64) multiply_of_cluster<PAIR, STAGES, 8>(g, p, shared, done);
            else if (p.count <= 80) multiply_of_cluster<PAIR, STAGES, 10>(g, p, shared, done);
            else if (p.count <= 96) multiply_of_cluster<PAIR, STAGES, 12>(g, p, shared, done);
            else if (p.count <= 120) multiply_of_cluster<PAIR, STAGES, 15>(g, p, shared, done);
            else if (p.count <= 128) multiply_of_cluster<PAIR, STAGES, 16>(g, p, shared, done);
            else if (p.count <= 136) multiply_of_cluster<PAIR, STAGES, 17>(g, p, shared, done);
            else if (p.count <= 144) multiply_of_cluster<PAIR, STAGES, 18>(g, p, shared, done);
            else multiply_of_cluster<PAIR, STAGES, 20>(g, p, shared, done);
        }
    }
    // The other may still arrive at barriers of this one.
    cluster_arrive();
    cluster_wait();
}

extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(384, 1)
    gemm_most(const __grid_constant__ Gemm g, const __grid_constant__ TensorMap first) {
    gemm_of_groups<false, WARPGROUPS>(g, &first, &first);
}
extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(384, 1)
    gated_most(const __grid_constant__ Gemm g, const __grid_constant__ TensorMap first, const __grid_constant__ TensorMap second) {
    gemm_of_groups<true, WARPGROUPS>(g, &first, &second);
}
#endif

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
