//! The verb `template`: Streambot's CloudFormation template, as text. It refuses to know what is in
//! it.

use clap::{Args, ValueEnum};
use streambot_infra::{Document, Streambot, Template};

use crate::error::{Error, Result};
use crate::verb::write_out;

/// What `template --help` says at its end.
pub(crate) const AFTER_HELP: &str = "\
Examples:
  streambot-deploy template --form composed > quakes.template   A stack of its own, to begin with
  streambot-deploy template > streambot.template                A stack to nest, by TemplateURL

Exit codes:
  0  done
  1  failed
  2  bad usage";

/// What a template is asked for.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Which stack the template is for
    #[arg(long, value_enum, default_value_t)]
    form: Form,

    /// How the template is written
    #[arg(long, value_enum, default_value_t)]
    output: Syntax,
}

/// Which stack the template is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A stack nested in the service's, which names it in its output StreambotStack.
    #[default]
    Nested,
    /// The service's own stack: a start for a template with resources of its own.
    Composed,
}

/// CloudFormation's two syntaxes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Syntax {
    #[default]
    Json,
    Yaml,
}

/// Prints the template.
///
/// # Errors
/// Failed where the template cannot be built, or standard output cannot be written.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let template = match arguments.form {
        Form::Nested => Streambot::new().template(),
        Form::Composed => composed(),
    };
    let document =
        template.build().map_err(|error| Error::failed("building the template").because(error))?;
    write_out(&text(&document, arguments.output)?)
}

fn composed() -> Template {
    let mut template = Template::new();
    template.description("A service of Streambot's");
    Streambot::new().add_to(&mut template);
    template
}

fn text(document: &Document, syntax: Syntax) -> Result<String> {
    match syntax {
        Syntax::Json => Ok(document.to_string()),
        Syntax::Yaml => serde_saphyr::to_string(document)
            .map_err(|error| Error::failed("writing the template as YAML").because(error)),
    }
}
