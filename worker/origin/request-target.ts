/**
 * What `fetch` makes of a request target (WHATWG URL §4.4), and how to say what it would not.
 *
 * In: path and query as the client wrote them. Out: the same as part of a URL; and whether that is another text.
 */

/** Backslashes as escapes: `fetch` would take them for slashes, and so lead to a pod what was matched as another path. */
export function urlTarget(target: string): string {
  const mark = target.indexOf("?");
  if (mark === -1) return target.replaceAll("\\", "%5C");
  return target.slice(0, mark).replaceAll("\\", "%5C") + target.slice(mark);
}

const ANY_ORIGIN = "http://a";

/** Nothing here is touched by the URL parser; everything else is looked at. */
const PLAIN = /^(?:[\w\-~!$&()*+,;=:@/?]|%(?!2e)|\.(?!\.?(?:\/|$|\?)))*$/i;

/**
 * Whether a URL with this target asks for something else, however little, that a header can say. Letters beyond ASCII
 * cannot: the runtime has decoded them, so they reach pods as escapes.
 */
export function isChangedByFetch(target: string): boolean {
  if (PLAIN.test(target) || !/^[!-~]*$/.test(target)) return false;
  return URL.parse(`${ANY_ORIGIN}${urlTarget(target)}`)?.href !== `${ANY_ORIGIN}${target}`;
}
