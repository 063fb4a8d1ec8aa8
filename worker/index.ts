/** The edge Worker: wiring only. The path of a request is `edge.ts`. */

import { Edge } from "./edge.ts";
import { type Environment, SettingError } from "./environment.ts";
import { errorPage } from "./error-page.ts";

let edge: Edge | undefined;
let edgeEnvironment: Environment | undefined;

/** The edge of this isolate; a new one when the environment is (in tests). */
function edgeOf(environment: Environment): Edge {
  if (edge === undefined || edgeEnvironment !== environment) {
    edge = new Edge(environment);
    edgeEnvironment = environment;
  }
  return edge;
}

/** Every page of our own has it in its path; what else has it somewhere is told apart by the pages themselves. */
const OWN_PAGES = "/.fairlead/";

async function answerWithPages(
  request: Request,
  environment: Environment,
  context: ExecutionContext,
): Promise<Response> {
  const { createPages } = await import("./pages.ts");
  return createPages(edgeOf).fetch(request, environment, context);
}

function fail(error: unknown): Response {
  console.error(
    error instanceof SettingError
      ? error.message
      : error instanceof Error
        ? (error.stack ?? error.message)
        : error,
  );
  return errorPage(500);
}

export { Limiter } from "./limits/limiter-object.ts";

export default {
  /** No async function: an answer that is made at once, as refusals are, costs no promise. */
  fetch(request, environment, context) {
    try {
      const current = edgeOf(environment);
      const answer =
        current.settings.showsStatus && request.url.includes(OWN_PAGES)
          ? answerWithPages(request, environment, context)
          : current.answer(request, context);
      return answer instanceof Promise ? answer.catch(fail) : answer;
    } catch (error) {
      return fail(error);
    }
  },
} satisfies ExportedHandler<Environment>;
