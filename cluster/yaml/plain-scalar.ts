/**
 * What an unquoted YAML scalar means to kubectl.
 *
 * In: the text of a plain scalar, trimmed. Out: string, number, boolean or null.
 * kubectl and every Go client read YAML with sigs.k8s.io/yaml, whose parser keeps YAML 1.1's words for
 * booleans (`on`, `yes`, `n`) and its octal `0777`, but no base-60 numbers, and leaves timestamps as text.
 * A manifest must mean here what it means there: `use-regex: on` is a boolean (and so an error in an annotation),
 * `mode: 0777` is 511. Source: goyaml.v2/resolve.go of sigs.k8s.io/yaml 1.4.
 */

const WORDS: ReadonlyMap<string, boolean | number | null> = new Map<string, boolean | number | null>([
  ...["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"].map(
    (word) => [word, true] as const,
  ),
  ...["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"].map(
    (word) => [word, false] as const,
  ),
  ...["", "~", "null", "Null", "NULL"].map((word) => [word, null] as const),
  ...[".nan", ".NaN", ".NAN"].map((word) => [word, Number.NaN] as const),
  ...[".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"].map(
    (word) => [word, Number.POSITIVE_INFINITY] as const,
  ),
  ...["-.inf", "-.Inf", "-.INF"].map((word) => [word, Number.NEGATIVE_INFINITY] as const),
]);

const LONGEST_WORD = 5;
const DECIMAL = /^[-+]?(?:0|[1-9][0-9]*)$/;
const PREFIXED = /^([-+]?)0([xX][0-9a-fA-F]+|[bB][01]+|[oO]?[0-7]+)$/;
const FLOAT = /^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$/;

/** The value of a plain scalar. Whole numbers beyond 2^53 lose digits, as in any JSON reader of JavaScript. */
export function resolvePlainScalar(text: string): string | number | boolean | null {
  // Only a word that begins like a number, or with one of a dozen letters, can be anything but text.
  if (!mayBeSpecial(text.charCodeAt(0))) return text;
  if (text.length <= LONGEST_WORD) {
    const word = WORDS.get(text);
    if (word !== undefined) return word;
  }
  const first = text.charCodeAt(0);
  const numeric = (first >= 48 && first <= 57) || first === 43 || first === 45 || first === 46;
  if (!numeric) return text;
  if (DECIMAL.test(text)) return Number(text);
  // A leading dot is a float without underscores or nothing; all else may hold `_` between digits.
  const digits = first === 46 ? text : text.replaceAll("_", "");
  if (DECIMAL.test(digits)) return Number(digits);
  const prefixed = PREFIXED.exec(digits);
  if (prefixed !== null) return readPrefixed(prefixed[1] ?? "", prefixed[2] ?? "");
  return FLOAT.test(digits) ? Number(digits) : text;
}

/** Characters with which a word, a number or nothing at all can begin: end of text, digits, `+-.~` and `yYnNtTfFoO`. */
function mayBeSpecial(code: number): boolean {
  if (code <= 57) return code >= 48 || code === 43 || code === 45 || code === 46;
  switch (code) {
    case 126: // ~
    case 121: // y
    case 89: // Y
    case 110: // n
    case 78: // N
    case 116: // t
    case 84: // T
    case 102: // f
    case 70: // F
    case 111: // o
    case 79: // O
      return true;
    default:
      return Number.isNaN(code);
  }
}

function readPrefixed(sign: string, digits: string): number {
  const letter = digits.charAt(0);
  const [radix, rest] =
    letter === "x" || letter === "X"
      ? [16, digits.slice(1)]
      : letter === "b" || letter === "B"
        ? [2, digits.slice(1)]
        : letter === "o" || letter === "O"
          ? [8, digits.slice(1)]
          : [8, digits];
  const value = Number.parseInt(rest, radix);
  return sign === "-" ? -value : value;
}

/**
 * A mapping key as the JSON key that kubectl makes of it: `27017:` is `"27017"`, `on:` is `"true"`.
 * Undefined for null, which no JSON object can have as a key.
 */
export function keyOfPlainScalar(text: string): string | undefined {
  const value = resolvePlainScalar(text);
  if (typeof value === "string") return value;
  return value === null ? undefined : String(value);
}
