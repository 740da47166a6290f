// Prefill on Hopper: the same arithmetic as `prefill` by the instruction for 64 rows. A warpgroup fetches keys and values, two multiply; the
// scores of the next chunk are computed while this one's values are merged.
//
// Keys and values lie in shared memory as that instruction reads them: rows of 64 numbers, swizzled; keys token by token, values dimension by
// dimension. Products of 16 are of the same 16 numbers as in decode: of each 32, first those in even pieces of four, then the others. So a copy
// moves pieces of four, 8 bytes.

#define HOPPER_STAGES 4
// 64 rows of keys, or 64 tokens of values, times 64.
#define HALF_BYTES (64 * 128)

// Place in a row of 64 numbers, of `piece` of four.
DEVICE u32 piece_place(int row, int piece) {
    int j = piece & 7, unit = (piece >> 3) * 4 + (j & 1) * 2 + (j >> 2);
    return row * 128 + ((unit ^ (row & 7)) << 4) + (j >> 1 & 1) * 8;
}

// Row that holds token `token` of a chunk: a lane's weights then are the pieces that it multiplies with values.
DEVICE int row_of_token(int token) {
    return (token & 32) + (token >> 2 & 1) * 16 + (token >> 3 & 3) * 4 + (token & 3);
}
DEVICE int token_of_groups(int j, int t, int i) { return (j & 1) * 16 + (t >> 1) * 8 + (j >> 1) * 4 + (t & 1) * 2 + i; }

// Of 8 bytes, the first `bytes`; zeros for the others.
DEVICE void copy_async_8_of(u32 to, const void* from, int bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

template <int HD>
struct Hopper {
    // Of keys, and of values, of a chunk; behind these eight dimensions that are 1 for all tokens, whose weighted sum is the mass.
    static const int BYTES = HD * CHUNK * 2, ONES = 8 * 128, STAGE = 2 * BYTES + ONES;

    u32 smem;

    DEVICE_MEMBER u32 keys(int chunk) const { return smem + chunk % HOPPER_STAGES * STAGE; }
    DEVICE_MEMBER u32 values(int chunk) const { return keys(chunk) + BYTES; }
    // Of a warpgroup.
    DEVICE_MEMBER u32 queries(int group) const { return smem + HOPPER_STAGES * STAGE + group * (HD / 64 * HALF_BYTES); }
    DEVICE_MEMBER u32 full(int chunk) const { return queries(2) + chunk % HOPPER_STAGES * 8; }
    DEVICE_MEMBER u32 empty(int chunk) const { return full(chunk) + HOPPER_STAGES * 8; }
    DEVICE_MEMBER static int parity(int chunk) { return chunk / HOPPER_STAGES & 1; }

    // A block's.
    DEVICE_MEMBER void write_ones() const {
        for (int s = 0; s < HOPPER_STAGES; s++)
            for (int i = threadIdx.x * 4; i < ONES; i += blockDim.x * 4)
                asm volatile("st.shared.b32 [%0], %1;" ::"r"(values(s) + BYTES + i), "r"(0x3c003c00) : "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }

    // A warpgroup's: chunk after chunk up to token `end`. A thread's copies of a block are 1,024 bytes apart in memory.
    DEVICE_MEMBER void fetch(const Attention& a, const u32* table, int end, int kv_head) const {
        const int OF_TOKEN = HD / 4, COPIES = HD * BLOCK / 4 / 128;
        int tid = threadIdx.x, chunks = (end + CHUNK - 1) / CHUNK, blocks = (end + BLOCK - 1) / BLOCK;
        u32 key_place = tid % OF_TOKEN / 16 * HALF_BYTES + piece_place(row_of_token(tid / OF_TOKEN), tid % 16);
        u32 value_place = BYTES + piece_place(tid / 8, tid % 8);
        u32 ids[2];
#pragma unroll
        for (int b = 0; b < 2; b++) ids[b] = b < blocks ? table[b] : 0;
        for (int chunk = 0; chunk < chunks; chunk++) {
            if (chunk >= HOPPER_STAGES) barrier_wait(empty(chunk), parity(chunk - HOPPER_STAGES));
#pragma unroll
            for (int b = 0; b < 2; b++) {
                u64 base = ((u64)ids[b] * a.kv_heads + kv_head) * (HD * BLOCK) + tid * 4;
                ids[b] = chunk * 2 + 2 + b < blocks ? table[chunk * 2 + 2 + b] : 0;
                int left = end - chunk * CHUNK - b * BLOCK;
                const u16 *keys_from = a.keys + base, *values_from = a.values + base;
                if (left > 0)
#pragma unroll
                    for (int i = 0; i < COPIES; i++) {
                        // From the row of this thread's first token; four rows further the swizzle has another bit.
                        const int row = row_of_token(i * (128 / OF_TOKEN)) + b * BLOCK;
                        copy_async_8(keys(chunk) + (key_place ^ (row & 4) << 4) + row * 128, keys_from + i * 512);
                    }
                // What was never written may be no number, and 0 times it is none either.
                int bytes = min(max((left - tid % 8 * 4) * 2, 0), 8);
#pragma unroll
                for (int i = 0; i < COPIES; i++) copy_async_8_of(keys(chunk) + (value_place ^ b << 6) + i * 2048, values_from + i * 512, bytes);
            }
            barrier_arrive_copied(full(chunk));
        }
    }
};

// d = a b, or d += a b, in f16. A: "l", a descriptor of 64 rows, or what a lane has of them.
#define GROUP_MULTIPLY_F16(NAME, NT, N, LIST, TYPE, A, B, TAIL, ...)                                                            \
    DEVICE void NAME##_multiply(float (&d)[NT][4], TYPE a, u64 b) {                                                            \
        asm volatile("{ .reg .pred p; setp.ne.b32 p, 0, 0; wgmma.mma_async.sync.aligned.m64n" N "k16.f32.f16.f16 {" LIST "}, " \
                     A ", " B ", p, 1, 1, " TAIL "; }"                                                                         \
                     : D_##NT("=f")                                                                                            \
                     : __VA_ARGS__, "l"(b));                                                                                   \
    }                                                                                                                          \
    DEVICE void NAME##_add(float (&d)[NT][4], TYPE a, u64 b) {                                                                 \
        asm volatile("wgmma.mma_async.sync.aligned.m64n" N "k16.f32.f16.f16 {" LIST "}, " A ", " B ", 1, 1, 1, " TAIL ";"       \
                     : D_##NT("+f")                                                                                            \
                     : __VA_ARGS__, "l"(b));                                                                                   \
    }
typedef const u32 (&OfLane)[4];
#define OF_LANE "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])
GROUP_MULTIPLY_F16(scores, 8, "64", LIST_32, u64, "%32", "%33", "0, 0", "l"(a))
GROUP_MULTIPLY_F16(values, 9, "72", LIST_36, OfLane, "{%36, %37, %38, %39}", "%40", "0", OF_LANE)
GROUP_MULTIPLY_F16(values, 17, "136", LIST_68, OfLane, "{%68, %69, %70, %71}", "%72", "0", OF_LANE)

DEVICE void groups_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void groups_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N>
DEVICE void groups_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
// What products wrote is not read before they are waited for.
template <int NT>
DEVICE void settle(float (&d)[NT][4]) {
#pragma unroll
    for (int n = 0; n < NT; n++) asm volatile("" : "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])::"memory");
}

// Of a warp's rows, to where the products read them.
template <int HD>
DEVICE void copy_queries(const Attention& a, u32 to, int warp, int first, int tokens, int kv_head, int group, int r, int t) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int token, head, row = (warp & 3) * 16 + r + h * 8;
        bool real = row_of(r + h * 8, group, tokens, token, head);
        const u16* from = a.q + ((u64)(first + token) * a.heads + kv_head * group + head) * HD;
#pragma unroll
        for (int piece = t; piece < HD / 4; piece += 4) {
            uint2 v = real ? *(const uint2*)(from + piece * 4) : make_uint2(0, 0);
            asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(to + piece / 16 * HALF_BYTES + piece_place(row, piece % 16)), "r"(v.x), "r"(v.y) : "memory");
        }
    }
}

// Queues the scores of a chunk.
template <int HD>
DEVICE void queue_scores(u32 queries, u32 keys, float (&score)[8][4]) {
    groups_fence();
#pragma unroll
    for (int k = 0; k < HD / 16; k++) {
        int of = k / 4 * HALF_BYTES + k % 4 * 32;
        if (k == 0) scores_multiply(score, descriptor(queries + of), descriptor(keys + of));
        else scores_add(score, descriptor(queries + of), descriptor(keys + of));
    }
    groups_commit();
}

// Queues a chunk's weighted values, and the mass.
template <int HD>
DEVICE void queue_values(const u32 (&p)[4][4], u32 values, float (&next)[HD / 8 + 1][4]) {
    groups_fence();
#pragma unroll
    for (int k = 0; k < 4; k++) {
        if (k == 0) values_multiply(next, p[k], descriptor(values + k * 32));
        else values_add(next, p[k], descriptor(values + k * 32));
    }
    groups_commit();
}

template <int HD>
DEVICE void attend_groups(const Attention& a, const Hopper<HD>& at, uint4 tile, int end, int kv_head) {
    int lane = threadIdx.x & 31, t = lane & 3, r = lane >> 2, warp = (threadIdx.x >> 5) - 4;
    int group = a.heads / a.kv_heads, most_tokens = 16 / group;
    int first = tile.x + warp * most_tokens;
    int tokens = min(max((int)tile.y - warp * most_tokens, 0), most_tokens);
    // The shuffle tells the compiler that all lanes agree.
    int warpgroup = __shfl_sync(0xffffffff, warp, 0) >> 2;
    u32 queries = at.queries(warpgroup);
    copy_queries<HD>(a, queries, warp, first, tokens, kv_head, group, r, t);
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    asm volatile("bar.sync %0, 128;" ::"r"(1 + warpgroup) : "memory");
    // What rows r and r + 8 may see, and what all of the block's may.
    int limit[2], open = a.positions[tile.x] + 1;
    find_limits(a, limit, first, tokens, group, r);
    // Chunks that the warpgroup's last token sees.
    int of_group = warpgroup * 4 * most_tokens, last = min((int)tile.y, of_group + 4 * most_tokens) - 1;
    int chunks = last < of_group ? 0 : a.positions[tile.x + last] / CHUNK + 1;
    float top[2] = {NEG_INF, NEG_INF}, mass[2] = {0.0f, 0.0f};
    float sum[HD / 8][4], next[HD / 8 + 1][4], score[8][4];
#pragma unroll
    for (int n = 0; n < HD / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) sum[n][i] = 0.0f;
    auto await = [&](int chunk) {
        barrier_wait(at.full(chunk), at.parity(chunk));
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        __syncwarp();
    };
    auto release = [&](int chunk) {
        __syncwarp();
        if (lane == 0) asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at.empty(chunk)) : "memory");
    };
    auto attend = [&](int chunk, bool is_last) {
        groups_wait<0>();
        settle(score);
        int start = chunk * CHUNK, seen[2] = {limit[0] - start, limit[1] - start};
        float next_top[2], keep[2], take[2];
        float(&weights)[2][4][4] = reinterpret_cast<float(&)[2][4][4]>(score);
        if (start + CHUNK <= open) weigh<false>(weights, seen, t, next_top, token_of_groups);
        else weigh<true>(weights, seen, t, next_top, token_of_groups);
        // Of 16 tokens each.
        u32 p[4][4];
#pragma unroll
        for (int k = 0; k < 4; k++)
#pragma unroll
            for (int i = 0; i < 4; i++) p[k][i] = pack_f16(score[2 * k + i / 2][i % 2 * 2], score[2 * k + i / 2][i % 2 * 2 + 1]);
        queue_values<HD>(p, at.values(chunk), next);
        if (!is_last) {
            await(chunk + 1);
            queue_scores<HD>(queries, at.keys(chunk + 1), score);
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float merged;
            merge_factors(top[h], next_top[h], merged, keep[h], take[h]);
            top[h] = merged;
        }
        if (is_last) groups_wait<0>();
        else groups_wait<1>();
        settle(next);
        release(chunk);
#pragma unroll
        for (int h = 0; h < 2; h++) mass[h] = merge(mass[h], keep[h], next[HD / 8][2 * h], take[h]);
#pragma unroll
        for (int n = 0; n < HD / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) sum[n][i] = merge(sum[n][i], keep[i >> 1], next[n][i], take[i >> 1]);
    };
    if (chunks > 0) {
        await(0);
        queue_scores<HD>(queries, at.keys(0), score);
        for (int chunk = 0; chunk < chunks - 1; chunk++) attend(chunk, false);
        attend(chunks - 1, true);
    }
    // Chunks that only the other warpgroup needs.
    for (int chunk = chunks; chunk * CHUNK < end; chunk++) {
        barrier_wait(at.full(chunk), at.parity(chunk));
        release(chunk);
    }
    store_rows<HD>(a, sum, mass, first, tokens, kv_head, group, r, t);
}

// Grid: KV heads, tiles.
template <int HD>
DEVICE void prefill_hopper(const Attention& a) {
    extern __shared__ __align__(1024) u8 shared[];
    Hopper<HD> at{shared_address(shared)};
    if (threadIdx.x == 0) {
        for (int s = 0; s < HOPPER_STAGES; s++) barrier_init(at.full(s), 128), barrier_init(at.empty(s), 8);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    at.write_ones();
    __syncthreads();
    begin();
    // The last tiles have the longest contexts: they begin first.
    uint4 tile = a.tiles[gridDim.y - 1 - blockIdx.y];
    int end = a.positions[tile.x + tile.y - 1] + 1, kv_head = blockIdx.x;
    if (threadIdx.x < 128) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        at.fetch(a, a.tables + a.table_of[tile.x], end, kv_head);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        attend_groups<HD>(a, at, tile, end, kv_head);
    }
}

extern "C" __global__ void __launch_bounds__(384, 1) attention_prefill_hopper_64(const __grid_constant__ Attention a) { prefill_hopper<64>(a); }
extern "C" __global__ void __launch_bounds__(384, 1) attention_prefill_hopper_128(const __grid_constant__ Attention a) { prefill_hopper<128>(a); }
