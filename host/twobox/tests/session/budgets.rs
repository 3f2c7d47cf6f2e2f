//! What waits for the budget of another day.

use twobox_runtime::StartSpec;
use twobox_shared::content::Failure;

use crate::world::{Then, World, answer_all, fail_all, number};

fn is_over_budget(spec: &StartSpec) -> Then {
    fail_all(spec, Failure::permanent(Failure::BUDGET_EXCEEDED, "the budget of today is used up"));
    Then::Leaves
}

fn answers(spec: &StartSpec) -> Then {
    answer_all(spec);
    Then::Leaves
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_budget_goes_on_when_a_person_has_raised_it() {
    let world = World::new(|_| {}).await;
    let config = world.core.parts.data.agent_config("anna");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    let budget = |text: &str| std::fs::write(&config, format!("{{\"budget\": {text}}}")).unwrap();
    budget(r#"{"tokens_per_day": 10}"#);
    world.runtime.next_life(is_over_budget);
    let session = world.say("t", "m0").await.unwrap().session;
    world.wait_outbounds(1).await;
    world.rest().await;
    let text = world.post.outbounds.lock().unwrap()[0].text.clone();
    assert!(text.contains("Your message is kept") && text.contains("is raised"), "{text}");

    budget(r#"{"tokens_per_day": 20}"#);
    world.wait_outbounds(2).await;
    world.rest().await;
    let text = world.post.outbounds.lock().unwrap()[1].text.clone();
    assert!(text.contains("Your message is kept"), "it is not enough, and that is told: {text}");

    world.runtime.next_life(answers);
    budget("{}");
    world.wait_outbounds(3).await;
    world.rest().await;
    let text = world.post.outbounds.lock().unwrap()[2].text.clone();
    assert_eq!((text.as_str(), *world.runtime.starts.lock().unwrap()), ("hi", 3));
    let tries = "SELECT tries - forgiven FROM messages_in WHERE id = 'm0'";
    assert_eq!(number(&world.inbound(session).await, tries), 0, "it is not to blame");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_is_raised_before_the_refusal_is_settled_is_not_missed() {
    let world = World::new(|_| {}).await;
    let config = world.core.parts.data.agent_config("anna");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(&config, r#"{"budget": {"tokens_per_day": 10}}"#).unwrap();
    world.runtime.next_life(move |spec| {
        let raised = r#"{"budget": {"tokens_per_day": 30}}"#;
        match std::fs::read_to_string(&config).unwrap() == raised {
            true => answers(spec),
            false => {
                std::fs::write(&config, raised).unwrap();
                is_over_budget(spec)
            }
        }
    });
    let session = world.say("t", "m0").await.unwrap().session;
    world.wait_outbounds(2).await;
    world.rest().await;
    let text = world.post.outbounds.lock().unwrap()[1].text.clone();
    assert_eq!((text.as_str(), *world.runtime.starts.lock().unwrap()), ("hi", 2));
    let tries = "SELECT tries - forgiven FROM messages_in WHERE id = 'm0'";
    assert_eq!(number(&world.inbound(session).await, tries), 0, "it is not to blame");
}
