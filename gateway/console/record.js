// A decision record of the gateway, made flat for tables and plots.

let tiers = [];

/** Tiers in order of cost: a tier keeps its colour everywhere. */
export function knowTiers(names) { tiers = names; }
export const tierColour = (name) => {
  const index = tiers.indexOf(name);
  return index < 0 ? "c-none" : `c-tier-${Math.min(index, 3)}`;
};

export const tierName = (index) => tiers[index] ?? `tier ${index}`;

export function flat(record) {
  const timings = record.timings ?? {};
  const examples = record.examples ?? [];
  const created = typeof record.created === "string" ? Date.parse(record.created) : record.created;
  return {
    id: record.request_id,
    at: created < 1e11 ? created * 1000 : created,
    tenant: record.tenant,
    tier: record.tier,
    cache: String(record.cache ?? "").toUpperCase(),
    examples: record.example_count ?? examples.length,
    similarity: record.similarity ?? examples.reduce((best, e) => Math.max(best, e.similarity), -Infinity),
    overhead: timings.overhead_ms,
    ttft: timings.ttft_ms,
    total: timings.total_ms,
    failed: record.error ?? null,
    admitted: record.admitted ?? null,
    state: "ended",
  };
}

/** Of a request that has just come. */
export const begun = ({ request_id: id, created, tenant }) => ({
  id, at: Date.parse(created), tenant, tier: null, cache: "", examples: 0, similarity: null, failed: null, admitted: null, state: "sent",
});

/** What the plots colour a request by. */
export function kind(row) {
  if (row.cache === "HIT") return { key: "hit", name: "stored answer", colour: "c-hit", plain: false };
  if (!row.tier) return { key: "none", name: "no answer", colour: "c-bad", plain: false };
  const withExamples = row.examples > 0;
  return {
    key: `${row.tier}${withExamples ? "+" : ""}`,
    name: withExamples ? `${row.tier} with examples` : row.tier,
    colour: tierColour(row.tier),
    plain: !withExamples,
  };
}
