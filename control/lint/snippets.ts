/**
 * What a `*-snippet` asks for, directive by directive, and which annotation or setting says the same.
 *
 * In: raw nginx configuration. Out: for each directive its counterpart here, or why it has none. Nothing is ever
 * executed; only literal values are translated. Directives: http://nginx.org/en/docs/dirindex.html, headers-more.
 */

export interface SnippetLine {
  /** The directive as written, on one line. */
  readonly directive: string;
  /** What to write instead; absent: there is nothing. */
  readonly instead?: string;
  /** Why there is nothing, or what to know. */
  readonly note?: string;
}

/** At most this many directives are looked at: a snippet is a note, not a program. */
const MAX_DIRECTIVES = 100;

export function translateSnippet(text: string): readonly SnippetLine[] {
  return splitDirectives(text)
    .slice(0, MAX_DIRECTIVES)
    .map(({ words, block }) => {
      const directive = `${words.join(" ")}${block ? " { … }" : ""}`;
      if (block) return { directive, note: "blocks (if, location, Lua) have no counterpart" };
      return { directive, ...translate(words) };
    });
}

type Translation = Omit<SnippetLine, "directive">;

const annotation = (name: string, value: string): Translation => ({
  instead: `nginx.ingress.kubernetes.io/${name}: ${JSON.stringify(value)}`,
});

function translate(words: readonly string[]): Translation {
  const [name = "", ...values] = words;
  const variable = values.find((value) => value.includes("$"));
  if (name === "proxy_set_header") return translateRequestHeader(values);
  if (variable !== undefined && name !== "rewrite") return { note: `${variable} is not a literal value` };
  const [first = "", second = ""] = values;
  switch (name) {
    case "more_set_headers": {
      const headers = values.filter(
        (value, index) => !value.startsWith("-") && !values[index - 1]?.startsWith("-"),
      );
      return responseHeaders(headers.map((header) => header.split(/:\s*/, 2)));
    }
    case "add_header":
      return responseHeaders([[first, second]]);
    case "more_clear_headers":
    case "proxy_hide_header":
      return {
        instead: `hide-headers: ${JSON.stringify(values.join(","))} in the controller's ConfigMap`,
        note: "for all Ingresses",
      };
    case "return":
      return translateReturn(first, second);
    case "rewrite":
      return { note: "a path with a group and `rewrite-target` do the same" };
    case "client_max_body_size":
      return annotation("proxy-body-size", first);
    case "proxy_connect_timeout":
    case "proxy_read_timeout":
    case "proxy_send_timeout":
      return secondsOf(first) === undefined
        ? { note: "not a number of seconds" }
        : annotation(name.replaceAll("_", "-"), String(secondsOf(first)));
    case "proxy_ssl_name":
    case "proxy_ssl_server_name":
    case "proxy_ssl_verify":
    case "proxy_next_upstream":
      return annotation(name.replaceAll("_", "-"), values.join(" "));
    case "allow":
      return first === "all"
        ? { note: "is what happens anyway" }
        : annotation("allowlist-source-range", first);
    case "deny":
      return first === "all"
        ? { note: "`allowlist-source-range` denies all that it does not list" }
        : annotation("denylist-source-range", first);
    case "satisfy":
      return annotation("satisfy", first);
    case "proxy_buffering":
    case "proxy_request_buffering":
    case "proxy_buffer_size":
    case "proxy_buffers":
    case "proxy_busy_buffers_size":
    case "proxy_http_version":
    case "gzip":
    case "gzip_types":
      return { note: "is not needed: the edge streams, and compresses by itself" };
    default:
      return { note: "has no counterpart" };
  }
}

function responseHeaders(headers: readonly (readonly string[])[]): Translation {
  const entries = headers.filter(([name, value]) => name !== undefined && name !== "" && value !== undefined);
  if (entries.length === 0) return { note: "names no header and value" };
  return {
    instead: entries
      .map(([name, value]) => `${name}: ${JSON.stringify(value)} in a ConfigMap that custom-headers names`)
      .join("; "),
    note: "the controller's ConfigMap lists the header in global-allowed-response-headers",
  };
}

function translateRequestHeader([header = "", value = ""]: readonly string[]): Translation {
  const name = header.toLowerCase();
  if (name === "upgrade" || name === "connection") return { note: "is not needed: WebSockets work without" };
  if (name === "host" && (value === "$host" || value === "$http_host"))
    return { note: "is what happens anyway" };
  if (value.includes("$"))
    return {
      note: `${value} is not a literal value; the headers of a proxy (X-Forwarded-…, X-Real-IP) are sent anyway`,
    };
  if (name === "host") return annotation("upstream-vhost", value);
  if (name === "authorization") return { note: "a credential does not belong into an annotation" };
  return {
    instead: `${header}: ${JSON.stringify(value)} in the ConfigMap that proxy-set-headers names`,
    note: "for all Ingresses",
  };
}

function translateReturn(status: string, value: string): Translation {
  if (status === "301" || status === "308") {
    const code = status === "301" ? "" : ' with nginx.ingress.kubernetes.io/permanent-redirect-code: "308"';
    return { instead: `nginx.ingress.kubernetes.io/permanent-redirect: ${JSON.stringify(value)}${code}` };
  }
  if (status === "302" || status === "303" || status === "307") {
    const code =
      status === "302" ? "" : ` with nginx.ingress.kubernetes.io/temporal-redirect-code: "${status}"`;
    return { instead: `nginx.ingress.kubernetes.io/temporal-redirect: ${JSON.stringify(value)}${code}` };
  }
  if (status === "403") return annotation("denylist-source-range", "0.0.0.0/0,::/0");
  return { note: "only redirects and 403 have a counterpart" };
}

function secondsOf(text: string): number | undefined {
  const [, digits, unit] = /^([0-9]{1,9})(s|m|h)?$/.exec(text) ?? [];
  if (digits === undefined) return undefined;
  return Number(digits) * (unit === "h" ? 3600 : unit === "m" ? 60 : 1);
}

interface Directive {
  readonly words: readonly string[];
  readonly block: boolean;
}

/** nginx's own syntax: words, quotes, `;`, blocks. What stands inside a block belongs to it. */
function splitDirectives(text: string): readonly Directive[] {
  const found: Directive[] = [];
  let words: string[] = [];
  let depth = 0;
  const end = (block: boolean): void => {
    if (words.length > 0 && depth === 0) found.push({ words, block });
    words = [];
  };
  for (const [token] of text.matchAll(
    /#[^\n]*|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[;{}]|[^\s;{}"'#]+(?:\{[^\s{}]*\}[^\s;{}"']*)*|["']/g,
  )) {
    if (token.startsWith("#")) continue;
    if (token === ";") end(false);
    else if (token === "{") {
      end(true);
      depth++;
    } else if (token === "}") {
      words = [];
      depth = Math.max(0, depth - 1);
    } else if (/^["']./s.test(token)) words.push(token.slice(1, -1).replace(/\\(.)/gs, "$1"));
    else words.push(token);
  }
  end(false);
  return found.map(({ words: all, block }) => ({
    words: all.map((word) => word.replace(/\s+/g, " ")),
    block,
  }));
}
