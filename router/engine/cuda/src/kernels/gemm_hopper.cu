// Many tokens on Hopper: its own instruction for 64 rows and up to 160 tokens, operands from shared memory. Two blocks that have the same
// weights and different tokens are a cluster: each fetches half of the weights for both. In a block a warpgroup fetches and two multiply.
// As many clusters as there is room for go through all tiles, so that fetching never waits for a tile's end.

#define CLUSTER_STAGES 4
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
// room for the outcome of 16 tokens in f32.
DEVICE u32 full_of(u32 smem, int step) {
    return smem + CLUSTER_STAGES * MOST_STAGE + step % CLUSTER_STAGES * 8;
}
DEVICE u32 empty_of(u32 smem, int step) {
    return full_of(smem, step) + CLUSTER_STAGES * 8;
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
template <bool PAIR>
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
        u32 full = full_of(smem, at), to = smem + at % CLUSTER_STAGES * MOST_STAGE;
        if (at >= CLUSTER_STAGES) barrier_wait(empty_of(smem, at), (at / CLUSTER_STAGES - 1) & 1);
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
template <int NT, bool FIRST>
DEVICE void multiply_step(u32 smem, int at, int warp, float (&sum)[2][NT][4]) {
    barrier_wait(full_of(smem, at), (at / CLUSTER_STAGES) & 1);
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    u32 stage = smem + at % CLUSTER_STAGES * MOST_STAGE, w = stage + (warp >> 2) * 128 * 128, x = stage + W_BYTES;
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
template <int NT>
DEVICE void store_floats(const Gemm& g, const Place& p, const float (&sum)[2][NT][4], u8* shared, int of_group, int tid, int lane) {
    const int PITCH = 256 * 4 + 16;
    int t = lane & 3, r = lane >> 2;
    u8* stage = shared + CLUSTER_STAGES * MOST_STAGE + CLUSTER_STAGES * 16;
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
template <bool PAIR, int NT>
DEVICE void store_halves(const Gemm& g, const Place& p, const float (&sum)[2][NT][4], u32 smem, const u8* shared, int warp, int lane) {
    // Sixteen rows of a box are two units of 16 bytes.
    const int BOXES = PAIR ? 1 : 2, UNITS = BOXES * 2, PITCH = UNITS * 16 + 16, TILES = 4 / BOXES;
    const int at = CLUSTER_STAGES * MOST_STAGE + CLUSTER_STAGES * 16 + warp * TILES * 8 * PITCH;
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

template <bool PAIR, int NT>
DEVICE void multiply_of_cluster(const Gemm& g, const Place& p, u8* shared, int done) {
    int tid = threadIdx.x - 128, lane = tid & 31, warp = tid >> 5;
    u32 smem = shared_address(shared);
    int steps = g.k / STEP;
    // The first product sets them: setting them here would make the compiler wait for each product.
    float sum[2][NT][4];
    multiply_step<NT, true>(smem, done, warp, sum);
    for (int step = 1; step < steps; step++) {
        multiply_step<NT, false>(smem, done + step, warp, sum);
        asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
        if (lane < 2) barrier_arrive_at(empty_of(smem, done + step - 1), lane);
    }
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    if (lane < 2) barrier_arrive_at(empty_of(smem, done + steps - 1), lane);
    if (!PAIR && g.how < ROUND) {
        store_floats<NT>(g, p, sum, shared, (warp >> 2) * 128 + (warp & 3) * 16, tid, lane);
        return;
    }
    store_halves<PAIR, NT>(g, p, sum, smem, shared, warp, lane);
}

// Grid: two blocks for each cluster.
template <bool PAIR>
DEVICE void gemm_of_groups(const Gemm& g, const TensorMap* first, const TensorMap* second) {
    extern __shared__ __align__(1024) u8 shared[];
    int rank = blockIdx.x & 1;
    u32 smem = shared_address(shared);
    if (threadIdx.x == 0) {
        for (int s = 0; s < CLUSTER_STAGES; s++) barrier_init(full_of(smem, s), 129), barrier_init(empty_of(smem, s), 16);
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
            fetch<PAIR>(g, first, second, items.place(g, item, rank), rank, smem, done);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 224;");
        for (int item = blockIdx.x / 2; item < items.count; item += gridDim.x / 2, done += steps) {
            Place p = items.place(g, item, rank);
            if (p.count <= 64) multiply_of_cluster<PAIR, 8>(g, p, shared, done);
            else if (p.count <= 80) multiply_of_cluster<PAIR, 10>(g, p, shared, done);
            else if (p.count <= 96) multiply_of_cluster<PAIR, 12>(g, p, shared, done);
            else if (p.count <= 120) multiply_of_cluster<PAIR, 15>(g, p, shared, done);
            else if (p.count <= 128) multiply_of_cluster<PAIR, 16>(g, p, shared, done);
            else if (p.count <= 136) multiply_of_cluster<PAIR, 17>(g, p, shared, done);
            else if (p.count <= 144) multiply_of_cluster<PAIR, 18>(g, p, shared, done);
            else multiply_of_cluster<PAIR, 20>(g, p, shared, done);
        }
    }
    // The other may still arrive at barriers of this one.
    cluster_arrive();
    cluster_wait();
}

extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(384, 1)
    gemm_most(const __grid_constant__ Gemm g, const __grid_constant__ TensorMap first) {
    gemm_of_groups<false>(g, &first, &first);
}
extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(384, 1)
    gated_most(const __grid_constant__ Gemm g, const __grid_constant__ TensorMap first, const __grid_constant__ TensorMap second) {
    gemm_of_groups<true>(g, &first, &second);
}
