/** How nginx writes the `Location` of a redirect that it makes itself. */

import type { Visit } from "../visit.ts";

/** One that begins with `/` gets scheme and host, without the port of `Host`; any other is sent as it is. */
export function absoluteLocation({ target }: Visit, location: string): string {
  return location.startsWith("/") ? `${target.scheme}://${target.host}${location}` : location;
}

/** nginx's `$request_uri`: path and query, byte for byte. */
export function requestUri({ target }: Visit): string {
  return target.rawPath + target.query;
}
