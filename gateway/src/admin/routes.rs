//! The table of the routes under `/admin/v1`, and what each takes and gives.

use http::StatusCode;
use reprise_accounts::{Change as KeyChange, NewKey};
use reprise_cache::selection::UtilityModel;
use serde_json::{Map, Value};

use super::example_view::ExampleView;
use super::lease::Grant;
use super::{
    Admin, decisions, events, examples, import, keys, outcomes, overview, pool, replay_lease, replay_runs,
    router, usage, utility,
};
use crate::decisions::DecisionRecord;
use crate::openapi::{Contract, Operation, Routes};

pub const PREFIX: &str = "/admin/v1";

const READING: &[u16] = &[401, 403];
const SEARCHING: &[u16] = &[400, 401, 403, 404, 500, 503];
const CHANGING: &[u16] = &[400, 401, 403, 404, 408, 409, 413, 415, 500, 503];

pub fn table() -> Routes<Admin> {
    let reads = |id, about| Operation::new(Contract::Admin, id, about).refuses(READING);
    let searches = |id, about| Operation::new(Contract::Admin, id, about).refuses(SEARCHING);
    let routes = Routes::under(PREFIX)
        .get(
            "/state",
            overview::show,
            searches("getState", "All that the console's overview shows.").gives::<overview::Overview>(),
        )
        .get(
            "/events",
            events::follow,
            searches(
                "followRequests",
                "Server-sent events, one for each request as it ends, without an end.",
            )
            .streams::<decisions::Summary>(),
        )
        .get(
            "/pool",
            pool::show,
            reads("getPool", "The tiers and how busy they are.").gives::<pool::PoolReport>(),
        )
        .get(
            "/router",
            router::show,
            reads("getRouter", "What the router is and knows.").gives::<router::Report>(),
        )
        .get(
            "/router/decisions",
            decisions::list,
            searches("listDecisions", "The newest requests.")
                .asks::<decisions::Page>()
                .gives::<decisions::Decisions>(),
        )
        .get(
            "/router/decisions/{request_id}",
            decisions::show,
            searches("getDecision", "Why one request was answered as it was.").gives::<DecisionRecord>(),
        )
        .get(
            "/outcomes",
            outcomes::list,
            searches("listOutcomes", "Rated answers, with embeddings: what a utility model is trained on.")
                .gives::<outcomes::Outcomes>(),
        )
        .get(
            "/usage",
            usage::list,
            searches("listUsage", "What keys and tenants have used.")
                .asks::<usage::Filter>()
                .gives::<usage::UsageList>(),
        );
    replay(keyring(memory(routes)))
}

fn changes(id: &'static str, about: &'static str) -> Operation {
    Operation::new(Contract::Admin, id, about).refuses(CHANGING)
}

fn memory(routes: Routes<Admin>) -> Routes<Admin> {
    routes
        .put(
            "/router/policy",
            router::switch,
            changes("switchPolicy", "Another policy decides, until a restart.")
                .takes::<router::Switch>()
                .gives::<router::Switched>(),
        )
        .get(
            "/examples",
            examples::list,
            changes("listExamples", "A tenant's examples, a page at a time.")
                .asks::<examples::Wanted>()
                .gives::<examples::Examples>(),
        )
        .delete(
            "/examples",
            examples::clear,
            changes("clearExamples", "Forgets all of a tenant, stored answers too.")
                .asks::<examples::Owner>()
                .gives::<examples::Deleted>(),
        )
        .post(
            "/examples/import",
            import::import,
            changes("importExamples", "Takes in known good pairs; a faulty one is refused alone.")
                .takes::<import::Import>()
                .gives::<import::Imported>(),
        )
        .get(
            "/examples/{id}",
            examples::show,
            changes("getExample", "One example of a tenant.")
                .asks::<examples::Owner>()
                .gives::<ExampleView>(),
        )
        .patch(
            "/examples/{id}",
            examples::change,
            changes("changeExample", "Changes what is given.")
                .asks::<examples::Owner>()
                .takes::<examples::Change>()
                .gives::<ExampleView>(),
        )
        .delete(
            "/examples/{id}",
            examples::delete,
            changes("deleteExample", "Forgets one example.")
                .asks::<examples::Owner>()
                .gives::<examples::Deleted>(),
        )
        .get(
            "/utility",
            utility::list,
            changes("listUtility", "The models that score examples.").gives::<utility::Versions>(),
        )
        .put(
            "/utility",
            utility::install,
            changes("installUtility", "A new model, which scores from the next request on.")
                .takes::<UtilityModel>()
                .gives::<utility::Switched>(),
        )
        .put(
            "/utility/active",
            utility::activate,
            changes("activateUtility", "Another stored model scores; 0 is the prior.")
                .takes::<utility::Switch>()
                .gives::<utility::Switched>(),
        )
}

fn keyring(routes: Routes<Admin>) -> Routes<Admin> {
    routes
        .get(
            "/keys",
            keys::list,
            changes("listKeys", "Virtual keys, without their secrets.")
                .asks::<keys::Filter>()
                .gives::<keys::KeyList>(),
        )
        .post(
            "/keys",
            keys::create,
            changes("createKey", "A new key; its secret is told once.")
                .takes::<NewKey>()
                .gives_at::<keys::WithSecret>(StatusCode::CREATED)
                .leads_to("id", &["getKey", "changeKey", "rotateKey", "revokeKey"]),
        )
        .get("/keys/{id}", keys::show, changes("getKey", "One key.").gives::<keys::KeyView>())
        .patch(
            "/keys/{id}",
            keys::alter,
            changes("changeKey", "Changes what is given.").takes::<KeyChange>().gives::<keys::KeyView>(),
        )
        .delete(
            "/keys/{id}",
            keys::revoke,
            changes("revokeKey", "From now on it is none.").gives::<keys::KeyView>(),
        )
        .post(
            "/keys/{id}/rotate",
            keys::rotate,
            changes("rotateKey", "A new secret; the old one holds for a while.")
                .takes::<keys::Rotation>()
                .gives::<keys::WithSecret>(),
        )
}

fn replay(routes: Routes<Admin>) -> Routes<Admin> {
    routes
        .post(
            "/replay/lease",
            replay_lease::acquire,
            changes("acquireLease", "The right to curate, which one job has at a time.")
                .takes::<replay_lease::Application>()
                .gives_at::<Grant>(StatusCode::CREATED)
                .leads_to("lease", &["renewLease", "releaseLease"]),
        )
        .put(
            "/replay/lease/{id}",
            replay_lease::renew,
            changes("renewLease", "Starts its time anew.")
                .may_take::<replay_lease::Renewal>()
                .gives::<Grant>(),
        )
        .delete(
            "/replay/lease/{id}",
            replay_lease::release,
            changes("releaseLease", "Gives it back.").gives::<replay_lease::Released>(),
        )
        .get(
            "/replay/runs",
            replay_runs::list,
            changes("listReplayRuns", "Reports of the curation job, newest first.")
                .asks::<replay_runs::Page>()
                .gives::<replay_runs::Runs>(),
        )
        .post(
            "/replay/runs",
            replay_runs::add,
            changes("addReplayRun", "A report of the curation job.")
                .takes::<Map<String, Value>>()
                .gives_at::<replay_runs::Received>(StatusCode::CREATED),
        )
}
