//! `/routes`: the snapshot in force as JSON, without secrets. Keys are counted, header values left out.

use serde_json::{Value, json};

use crate::config::{
    Auth, EchoModel, Finding, Flavor, HttpVersions, Model, Origin, Price, Provider, ReloadStatus, Retry, Snapshot,
    Target, Tier, Timeouts,
};

pub(super) fn view(snapshot: &Snapshot, reload: &ReloadStatus) -> Value {
    let models = snapshot.models.exact.iter().chain(snapshot.models.wild.iter().map(|(_, model)| model));
    let mut tiers: Vec<&Tier> = snapshot.tiers.values().map(AsRef::as_ref).collect();
    tiers.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    json!({
        "generation": snapshot.generation,
        "loaded_unix": snapshot.loaded_unix,
        "last_reload": reload_view(reload),
        "providers": snapshot.providers.iter().map(|provider| provider_view(provider)).collect::<Vec<_>>(),
        "models": models.map(|model| model_view(model)).collect::<Vec<_>>(),
        "rules": snapshot.rules.iter().map(|rule| json!({"when": rule.when, "use": rule.model.name})).collect::<Vec<_>>(),
        "tiers": tiers.into_iter().map(tier_view).collect::<Vec<_>>(),
        "keys": snapshot.keys.len(),
    })
}

fn reload_view(reload: &ReloadStatus) -> Value {
    let findings = |list: &[Finding]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (warnings, faults) = match &reload.outcome {
        Ok(warnings) => (findings(warnings), Vec::new()),
        Err(faults) => (Vec::new(), findings(&faults.list)),
    };
    json!({
        "ok": reload.outcome.is_ok(),
        "tried_unix": reload.tried_unix,
        "taken": reload.taken,
        "refused": reload.refused,
        "warnings": warnings,
        "faults": faults,
    })
}

fn provider_view(provider: &Provider) -> Value {
    json!({
        "name": provider.name,
        "urls": provider.origins.iter().map(url).collect::<Vec<_>>(),
        "keys": provider.keys.len(),
        "auth": match provider.auth {
            Auth::Bearer => "bearer",
            Auth::XApiKey => "x-api-key",
            Auth::ApiKey => "api-key",
            Auth::None => "none",
        },
        "flavor": match provider.flavor {
            Flavor::Plain => "plain",
            Flavor::AzureDeployments => "azure_deployments",
        },
        "http": match provider.http {
            HttpVersions::Http1 => "1.1",
            HttpVersions::Auto => "auto",
            HttpVersions::Http2 => "2",
        },
        "tls": {
            "own_ca": provider.tls.ca.is_some(),
            "client_certificate": provider.tls.client.is_some(),
            "server_name": provider.tls.server_name,
        },
        "header_names": provider.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        "serves": provider.serves.iter().map(|endpoint| endpoint.name()).collect::<Vec<_>>(),
    })
}

fn url(origin: &Origin) -> String {
    let scheme = if origin.tls { "https" } else { "http" };
    // The authority was made from a host and a port, so it is ASCII.
    let authority = origin.authority.to_str().unwrap_or(&origin.host);
    format!("{scheme}://{authority}{}", origin.base_path)
}

fn model_view(model: &Model) -> Value {
    json!({
        "name": model.name,
        "to": model.to.iter().map(target_view).collect::<Vec<_>>(),
        "else": model.fallback.iter().map(target_view).collect::<Vec<_>>(),
        "pick": model.pick.name(),
        "timeouts_ms": timeouts_view(&model.timeouts),
        "retry": retry_view(&model.retry),
        "echo_model": match model.echo_model {
            EchoModel::Requested => "requested",
            EchoModel::Upstream => "upstream",
        },
        "owned_by": model.owned_by,
    })
}

fn target_view(target: &Target) -> Value {
    json!({
        "provider": target.provider.name,
        "model": target.model,
        "weight": target.weight,
        "price_microusd": target.price.as_ref().map(|prices| prices.rows().iter().map(price_view).collect::<Vec<_>>()),
    })
}

/// One row of a target's prices, the zeros left out. What is not priced by the million is for each.
fn price_view(price: &Price) -> Value {
    let amounts = [
        ("input", price.input_microusd),
        ("cached_input", price.cached_input_microusd),
        ("cache_write", price.cache_write_microusd),
        ("audio_input", price.audio_input_microusd),
        ("image_input", price.image_input_microusd),
        ("output", price.output_microusd),
        ("reasoning", price.reasoning_microusd),
        ("audio_output", price.audio_output_microusd),
        ("characters", price.characters_microusd),
        ("image", price.image_microusd),
        ("minute", price.minute_microusd),
        ("search", price.search_microusd),
        ("document", price.document_microusd),
    ];
    let mut view = json!({"version": price.version, "from_unix": price.from_unix});
    for (name, amount) in amounts.into_iter().filter(|(_, amount)| *amount > 0) {
        view[name] = amount.into();
    }
    view
}

fn timeouts_view(timeouts: &Timeouts) -> Value {
    json!({
        "connect": timeouts.connect.as_millis() as u64,
        "first_byte": timeouts.first_byte.as_millis() as u64,
        "idle": timeouts.idle.as_millis() as u64,
        "total": timeouts.total.as_millis() as u64,
    })
}

fn retry_view(retry: &Retry) -> Value {
    let on = retry.on;
    let outcomes = [
        ("connect", on.connect),
        ("first_byte", on.first_byte),
        ("408", on.request_timeout),
        ("429", on.rate_limited),
        ("5xx", on.server_error),
    ];
    let names: Vec<&str> = outcomes.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect();
    json!({"attempts": retry.attempts, "on": names, "budget_percent": retry.budget_percent})
}

fn tier_view(tier: &Tier) -> Value {
    json!({"name": tier.name, "models": tier.models.iter().map(ToString::to_string).collect::<Vec<_>>()})
}
