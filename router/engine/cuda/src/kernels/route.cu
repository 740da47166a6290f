// From the gate's logits to who computes what: softmax, top k, and the rows of each expert side by side, without the host.

#define MAX_EXPERTS 512

struct Route {
    // [rows][experts]
    const float* logits;
    // [rows][top k], largest first.
    u32* chosen;
    float* weights;
    const u32* rows;
    int experts, top_k, renormalise;
};

// A warp a row. Of equal logits the lower expert.
template <int PER_LANE>
DEVICE void choose_of(const Route& r, u32 row, int lane) {
    const float* from = r.logits + (u64)row * r.experts;
    float logit[PER_LANE];
    float top = NEG_INF;
#pragma unroll
    for (int i = 0; i < PER_LANE; i++) {
        int expert = i * 32 + lane;
        logit[i] = expert < r.experts ? from[expert] : NEG_INF;
        top = fmaxf(top, logit[i]);
    }
    top = warp_max(top);
    float mass = 0.0f;
#pragma unroll
    for (int i = 0; i < PER_LANE; i++) mass += __expf(logit[i] - top);
    mass = warp_sum(mass);
    float chosen_mass = 0.0f, mine = 0.0f;
    for (int slot = 0; slot < r.top_k; slot++) {
        float best = NEG_INF;
        int which = 1 << 30;
#pragma unroll
        for (int i = 0; i < PER_LANE; i++) {
            if (logit[i] > best) best = logit[i], which = i * 32 + lane;
        }
        for (int o = 16; o > 0; o >>= 1) {
            float other = __shfl_xor_sync(0xffffffff, best, o);
            int at = __shfl_xor_sync(0xffffffff, which, o);
            if (other > best || (other == best && at < which)) best = other, which = at;
        }
        // No number at all: any expert, so that nothing is read from beyond.
        if (which >= r.experts) which = slot;
#pragma unroll
        for (int i = 0; i < PER_LANE; i++) {
            if (i * 32 + lane == which) logit[i] = NEG_INF;
        }
        float weight = __expf(best - top);
        chosen_mass += weight;
        if (lane == slot) {
            r.chosen[(u64)row * r.top_k + slot] = which;
            mine = weight;
        }
    }
    if (lane < r.top_k) r.weights[(u64)row * r.top_k + lane] = mine / (r.renormalise ? chosen_mass : mass);
}

DEVICE void choose(const Route& r, u32 row, int lane) {
    if (r.experts <= 64) choose_of<2>(r, row, lane);
    else if (r.experts <= 128) choose_of<4>(r, row, lane);
    else choose_of<MAX_EXPERTS / 32>(r, row, lane);
}

extern "C" __global__ void __launch_bounds__(128) top_k(const __grid_constant__ Route r) {
    begin();
    u32 row = blockIdx.x * 4 + (threadIdx.x >> 5);
    if (row < *r.rows) choose(r, row, threadIdx.x & 31);
}

struct Group {
    const u32* chosen;
    const u32* rows;
    // Of each part: its place among the parts sorted by expert; of each place: the row.
    u32* part_of;
    u32* row_of;
    // Tiles of up to `tile` parts of one expert: {expert, first, end, 0}.
    uint4* tiles;
    u32* tile_count;
    int experts, top_k, tile;
};

// Calls f(part, its expert) for each of this thread's parts; many are asked for before the first is needed.
template <typename F>
DEVICE void each_part(const Group& g, u32 parts, F f) {
    const int HELD = 16;
    for (u32 base = threadIdx.x; base < parts; base += HELD * blockDim.x) {
        u32 expert[HELD];
#pragma unroll
        for (int j = 0; j < HELD; j++) expert[j] = base + j * blockDim.x < parts ? g.chosen[base + j * blockDim.x] : 0;
#pragma unroll
        for (int j = 0; j < HELD; j++)
            if (base + j * blockDim.x < parts) f(base + j * blockDim.x, expert[j]);
    }
}

// One block of 1024. In which order an expert's parts lie varies; their results do not depend on it.
DEVICE void group(const Group& g) {
    __shared__ u32 counts[MAX_EXPERTS], starts[MAX_EXPERTS], sums[2][32];
    u32 parts = *g.rows * g.top_k;
    int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    if (tid < MAX_EXPERTS) counts[tid] = 0;
    __syncthreads();
    each_part(g, parts, [&](u32, u32 expert) { atomicAdd(&counts[expert], 1u); });
    __syncthreads();
    // Sums of all before, of parts and of tiles; experts are at most half of the threads.
    u32 count = tid < g.experts ? counts[tid] : 0, tiles = (count + g.tile - 1) / g.tile;
    u32 begin = count, tile_begin = tiles;
    for (int o = 1; o < 32; o <<= 1) {
        u32 a = __shfl_up_sync(0xffffffff, begin, o), b = __shfl_up_sync(0xffffffff, tile_begin, o);
        if (lane >= o) begin += a, tile_begin += b;
    }
    if (lane == 31) sums[0][warp] = begin, sums[1][warp] = tile_begin;
    __syncthreads();
    if (warp == 0) {
        u32 a = sums[0][lane], b = sums[1][lane];
        for (int o = 1; o < 32; o <<= 1) {
            u32 c = __shfl_up_sync(0xffffffff, a, o), d = __shfl_up_sync(0xffffffff, b, o);
            if (lane >= o) a += c, b += d;
        }
        sums[0][lane] = a, sums[1][lane] = b;
    }
    __syncthreads();
    if (warp > 0) begin += sums[0][warp - 1], tile_begin += sums[1][warp - 1];
    begin -= count, tile_begin -= tiles;
    if (tid < g.experts) {
        starts[tid] = begin;
        // As equal as steps of 16 allow.
        u32 size = tiles > 0 ? ((count + tiles - 1) / tiles + 15) / 16 * 16 : 0;
        for (u32 i = 0; i < tiles; i++) {
            u32 first = min(i * size, count), end = min(first + size, count);
            g.tiles[tile_begin + i] = make_uint4(tid, begin + first, begin + end, 0);
        }
    }
    if (tid == 0) *g.tile_count = sums[1][31];
    __syncthreads();
    // Scattered in shared memory first where there is room: a block alone is slow at lines of which it writes four bytes.
    const u32 ROOM = 16384;
    __shared__ u16 rows[ROOM];
    bool fits = parts <= ROOM && *g.rows <= 65536;
    each_part(g, parts, [&](u32 part, u32 expert) {
        u32 place = atomicAdd(&starts[expert], 1u);
        g.part_of[part] = place;
        if (fits) rows[place] = part / g.top_k;
        else g.row_of[place] = part / g.top_k;
    });
    __syncthreads();
    if (fits)
        for (u32 place = tid; place < parts; place += blockDim.x) g.row_of[place] = rows[place];
}

extern "C" __global__ void __launch_bounds__(1024) group_parts(const __grid_constant__ Group g) {
    begin();
    group(g);
}

// Both at once for few rows: a launch less.
extern "C" __global__ void __launch_bounds__(1024) route_few(const __grid_constant__ Route r, const __grid_constant__ Group g) {
    begin();
    for (u32 row = threadIdx.x >> 5; row < *r.rows; row += 32) choose(r, row, threadIdx.x & 31);
    __syncthreads();
    group(g);
}
