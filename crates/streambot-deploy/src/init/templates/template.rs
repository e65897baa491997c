//! The stack of this service: the stream, its roles and its alarms.
//!
//! `cargo run --quiet --example {example} > {name}.template`

use streambot_infra::{Streambot, Template, TemplateError};

fn main() -> Result<(), TemplateError> {
    let streambot = Streambot::new();
    let mut template = Template::new();
    template.description("Alerts for strong earthquakes");
    streambot.add_to(&mut template);

    // `template.resource(…)` adds what else the service needs; its id reaches the function's
    // environment under its name here. `streambot.execution_role().allow(…)` makes a policy that
    // gives the function rights to it.

    print!("{}", template.build()?);
    Ok(())
}
