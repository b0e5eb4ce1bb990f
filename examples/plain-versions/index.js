// Orders version numbers as https://semver.org does, and picks the newest one in a range.
//
// A range is one of: "1.2.3" (exactly this), "^1.2.3" (no change of the leftmost number that is not
// zero), "~1.2.3" (no change of the first two numbers), ">=1.2.3", "*".

const shape = /^(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?$/;

/** The parts of a version. Throws a TypeError when `text` is not a version. */
export function parse(text) {
  const found = shape.exec(text);
  if (found === null) throw new TypeError(`${JSON.stringify(text)} is not a version`);
  const [, major, minor, patch, preRelease] = found;
  return {
    numbers: [major, minor, patch].map(Number),
    preRelease: preRelease === undefined ? [] : preRelease.split('.'),
  };
}

const isNumber = (part) => /^\d+$/.test(part);

// Numbers come before words; numbers are compared by value, words by their characters.
function comparePart(left, right) {
  if (isNumber(left) && isNumber(right)) return Number(left) - Number(right);
  if (isNumber(left) !== isNumber(right)) return isNumber(left) ? -1 : 1;
  return left < right ? -1 : Number(left > right);
}

function comparePreRelease(left, right) {
  // A release is newer than each of its pre-releases.
  if (left.length === 0 || right.length === 0) return right.length - left.length;
  for (let at = 0; at < Math.min(left.length, right.length); at++) {
    const difference = comparePart(left[at], right[at]);
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}

/** Below zero when `left` is older than `right`, above when it is newer, else zero. */
export function compare(left, right) {
  const [a, b] = [parse(left), parse(right)];
  for (let at = 0; at < 3; at++) {
    if (a.numbers[at] !== b.numbers[at]) return a.numbers[at] - b.numbers[at];
  }
  return comparePreRelease(a.preRelease, b.preRelease);
}

// How many of the leading numbers a version must share with the range's.
function fixedNumbers(operator, numbers) {
  if (operator === '~') return 2;
  const leading = numbers.findIndex((number) => number !== 0);
  return leading === -1 ? 3 : leading + 1;
}

/** Whether `version` lies in `range`. A pre-release lies only in ranges that name one of the same release. */
export function satisfies(version, range) {
  const { numbers, preRelease } = parse(version);
  if (range === '*') return preRelease.length === 0;
  const [, operator, least] = /^(\^|~|>=|)(.*)$/.exec(range);
  const from = parse(least);
  const sameRelease = numbers.every((number, at) => number === from.numbers[at]);
  if (preRelease.length > 0 && !(sameRelease && from.preRelease.length > 0)) return false;
  if (operator === '') return compare(version, least) === 0;
  if (compare(version, least) < 0) return false;
  if (operator === '>=') return true;
  const fixed = fixedNumbers(operator, from.numbers);
  return numbers.slice(0, fixed).every((number, at) => number === from.numbers[at]);
}

/** The newest of `versions` that lies in `range`, or null when none does. */
export function newest(versions, range) {
  const fitting = versions.filter((version) => satisfies(version, range));
  return fitting.sort(compare).at(-1) ?? null;
}
