/**
 * The answers that the edge gives itself, in the shape of nginx's built-in pages: what scripts and people
 * look for is the line `404 Not Found`. HEAD is answered alike; the runtime sends no body then.
 */

const REASONS = {
  400: "Bad Request",
  401: "Authorization Required",
  403: "Forbidden",
  404: "Not Found",
  408: "Request Time-out",
  413: "Request Entity Too Large",
  429: "Too Many Requests",
  500: "Internal Server Error",
  502: "Bad Gateway",
  503: "Service Temporarily Unavailable",
  504: "Gateway Time-out",
} as const;

const REDIRECT_REASONS: Readonly<Record<number, string>> = {
  301: "Moved Permanently",
  302: "Found",
  303: "See Other",
  307: "Temporary Redirect",
  308: "Permanent Redirect",
};

export type ErrorStatus = keyof typeof REASONS;

/** Mutable, like every answer; `status` may be any other code where the operator chose one (limits). */
export function errorPage(status: number): Response {
  return page(status, (REASONS as Readonly<Record<number, string>>)[status] ?? "");
}

/** One of nginx's pages that says more than its status: `title` stands above, `text` below. ASCII without markup. */
export function detailedErrorPage(status: ErrorStatus, title: string, text = title): Response {
  const heading = `${status} ${REASONS[status]}`;
  const html = `<html>\r\n<head><title>${status} ${title}</title></head>\r\n<body>\r\n<center><h1>${heading}</h1></center>\r\n<center>${text}</center>\r\n<hr><center>fairlead</center>\r\n</body>\r\n</html>\r\n`;
  return new Response(html, {
    status,
    statusText: REASONS[status],
    headers: { "Content-Type": "text/html", "Content-Length": String(html.length) },
  });
}

/** `location` as it shall be sent. */
export function redirectPage(status: number, location: string): Response {
  const response = page(status, REDIRECT_REASONS[status] ?? "");
  response.headers.set("Location", location);
  return response;
}

/** By status: a flood of refusals should cost as little as it can. */
const inits = new Map<number, { readonly html: string; readonly init: ResponseInit }>();

function page(status: number, reason: string): Response {
  let made = inits.get(status);
  if (made === undefined) {
    const title = `${status} ${reason}`.trimEnd();
    const html = `<html>\r\n<head><title>${title}</title></head>\r\n<body>\r\n<center><h1>${title}</h1></center>\r\n<hr><center>fairlead</center>\r\n</body>\r\n</html>\r\n`;
    made = {
      html,
      init: {
        status,
        ...(reason === "" ? {} : { statusText: reason }),
        // The length is written out for HEAD, where the runtime sees no body to measure. All of it is ASCII.
        headers: { "Content-Type": "text/html", "Content-Length": String(html.length) },
      },
    };
    inits.set(status, made);
  }
  return new Response(made.html, made.init);
}
