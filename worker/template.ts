/** Text with nginx's variables, for one request. Closed list and meaning: `edge-config/template.ts`. */

import type { Template, Variable } from "../edge-config/template.ts";
import { readCookie } from "./cookies.ts";
import { encodePath } from "./path.ts";
import type { Visit } from "./visit.ts";

/** A byte that could end a header never comes out of a variable: URLs and headers hold none. */
export function fillTemplate(template: Template, visit: Visit): string {
  let text = "";
  for (const piece of template) text += typeof piece === "string" ? piece : variableOf(piece.variable, visit);
  return text;
}

function variableOf(variable: Variable, visit: Visit): string {
  const { request, target } = visit;
  switch (variable) {
    case "args":
    case "query_string":
      return target.query.slice(1);
    case "is_args":
      return target.query.length > 1 ? "?" : "";
    case "request_uri":
      return target.rawPath + target.query;
    case "escaped_request_uri":
      return escapeUri(target.rawPath + target.query);
    case "uri":
      return encodePath(visit.path);
    case "host":
      return target.host;
    case "http_host":
      return target.authority;
    case "server_name":
      return visit.host.name;
    case "server_port":
      return visit.port;
    case "scheme":
      return target.scheme;
    case "https":
      return target.scheme === "https" ? "on" : "";
    case "remote_addr":
      return visit.client;
    case "remote_user":
      return remoteUser(request);
    case "request_id":
      return visit.requestId;
    case "request_method":
      return request.method;
    default:
      return namedValue(variable, visit);
  }
}

function namedValue(
  variable: `arg_${string}` | `cookie_${string}` | `http_${string}`,
  { request, target }: Visit,
): string {
  const underscore = variable.indexOf("_");
  const name = variable.slice(underscore + 1);
  switch (variable.slice(0, underscore)) {
    case "arg":
      return rawArgument(target.query, name);
    case "cookie":
      return readCookie(request, name) ?? "";
    default:
      return request.headers.get(name.replaceAll("_", "-")) ?? "";
  }
}

/** nginx does not decode arguments, and compares their names without case. */
function rawArgument(query: string, name: string): string {
  for (const pair of query.slice(1).split("&")) {
    const equals = pair.indexOf("=");
    if (equals >= 0 && pair.slice(0, equals).toLowerCase() === name) return pair.slice(equals + 1);
  }
  return "";
}

function remoteUser(request: Request): string {
  const [, encoded] = /^basic +(\S+)$/i.exec(request.headers.get("authorization") ?? "") ?? [];
  if (encoded === undefined) return "";
  try {
    return encodeURIComponent(atob(encoded).split(":", 1)[0] ?? "");
  } catch {
    return "";
  }
}

/** `ngx.escape_uri`: everything but unreserved characters (RFC 3986 §2.3); what is escaped already is escaped again. */
export function escapeUri(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
