// A terminal's screen: what is printed into it, and nothing of its drawing. A subset of the VT100:
// SGR with 16, 256 and true colours, cursor moves, erasing, inserting and deleting.

const PLAIN = Object.freeze({
  fg: null, bg: null, bold: false, italics: false, underscore: false, strikethrough: false,
  reverse: false, blink: false,
});
const SWITCHES = {
  1: ["bold", true], 3: ["italics", true], 4: ["underscore", true], 5: ["blink", true],
  7: ["reverse", true], 9: ["strikethrough", true], 22: ["bold", false], 23: ["italics", false],
  24: ["underscore", false], 25: ["blink", false], 27: ["reverse", false],
  29: ["strikethrough", false],
};
const LEVELS = [0, 95, 135, 175, 215, 255];
const MAX_CELLS = 200_000;

const SEQUENCE = new RegExp(
  "\\x1b\\[([0-?]*)[ -/]*([@-~])" + // CSI: parameters, final
  "|\\x1b[\\]PX^_][^\\x07\\x1b]*(?:\\x07|\\x1b\\\\)?" + // OSC and its kin, passed over
  "|\\x1b[ -/]*([0-~])" + // other escapes
  "|([\\x00-\\x1f\\x7f])" +
  "|([^\\x00-\\x1f\\x7f\\x1b]+)",
  "gu",
);
const ZERO = /[\p{Mn}\p{Me}\p{Cf}]/u;
const WIDE = new RegExp(
  "[\\u1100-\\u115f\\u2e80-\\u303e\\u3041-\\ua4cf\\ua960-\\ua97c\\uac00-\\ud7a3\\uf900-\\ufaff" +
  "\\ufe10-\\ufe19\\ufe30-\\ufe6f\\uff00-\\uff60\\uffe0-\\uffe6\\u{1b000}-\\u{1b2ff}" +
  "\\u{20000}-\\u{3fffd}]|\\p{Emoji_Presentation}",
  "u",
);

/** Cells that a character takes: 0, 1 or 2. */
export function charWidth(char) {
  const code = char.codePointAt(0);
  if (code < 0x300) return 1;
  if (ZERO.test(char)) return 0;
  if ((code >= 0x1160 && code <= 0x11ff) || (code >= 0xd7b0 && code <= 0xd7ff)) return 0;
  return WIDE.test(char) ? 2 : 1;
}

/** One of the 256 colours: 0 to 15 are the theme's and stay numbers, the rest is `rrggbb`. */
function paletteColour(n) {
  if (!(n >= 0 && n <= 255)) return null;
  if (n < 16) return n;
  const grey = 8 + (n - 232) * 10;
  const rgb = n >= 232
    ? [grey, grey, grey]
    : [Math.floor((n - 16) / 36), Math.floor((n - 16) / 6) % 6, (n - 16) % 6].map((k) => LEVELS[k]);
  return hex(rgb);
}

const hex = (rgb) =>
  rgb.map((k) => Math.max(0, Math.min(255, k || 0)).toString(16).padStart(2, "0")).join("");

export class Terminal {
  /** A screen of `columns` by `rows` cells, empty. */
  constructor(columns, rows) {
    this.columns = Math.max(1, Math.min(columns | 0, 9999));
    this.rows = Math.max(1, Math.min(rows | 0, Math.floor(MAX_CELLS / this.columns)));
    this.reset();
  }

  reset() {
    this.x = this.y = 0;
    this.style = PLAIN;
    this.saved = null;
    this.lines = Array.from({ length: this.rows }, () => this.#blankLine(PLAIN));
  }

  /** Print text with its escape sequences. */
  write(data) {
    for (const [, params, final, escape, control, text] of data.matchAll(SEQUENCE)) {
      if (text !== undefined) this.#print(text);
      else if (control !== undefined) this.#control(control);
      else if (final !== undefined) this.#sequence(params, final);
      else if (escape !== undefined) this.#escape(escape);
    }
  }

  #blankLine(style) {
    return Array.from({ length: this.columns }, () => ({ char: " ", style }));
  }

  #print(text) {
    for (const char of text) {
      const width = charWidth(char);
      if (width === 0) {
        this.#combine(char);
        continue;
      }
      if (this.x >= this.columns) {
        this.x = 0;
        this.#down();
      }
      const line = this.lines[this.y];
      line[this.x] = { char, style: this.style };
      if (width === 2 && this.x + 1 < this.columns) line[this.x + 1] = { char: "", style: this.style };
      this.x = Math.min(this.x + width, this.columns);
    }
  }

  #combine(char) {
    const x = this.x ? this.x - 1 : this.columns - 1;
    const line = this.x ? this.lines[this.y] : this.lines[this.y - 1];
    if (!line || !/\p{M}/u.test(char)) return;
    line[x] = { ...line[x], char: (line[x].char + char).normalize("NFC") };
  }

  #control(char) {
    if (char === "\r") this.x = 0;
    else if (char === "\n" || char === "\v" || char === "\f") this.#down();
    else if (char === "\b") this.#right(-1);
    else if (char === "\t") this.x = Math.min(this.x + 8 - (this.x % 8), this.columns - 1);
  }

  #escape(final) {
    if (final === "7") this.saved = { x: this.x, y: this.y, style: this.style };
    else if (final === "8") this.#restore();
    else if (final === "c") this.reset();
    else if (final === "D") this.#down();
    else if (final === "E") {
      this.x = 0;
      this.#down();
    } else if (final === "M") this.#up();
  }

  #restore() {
    ({ x: this.x, y: this.y, style: this.style } = this.saved ?? { x: 0, y: 0, style: PLAIN });
  }

  #down() {
    if (this.y < this.rows - 1) this.y += 1;
    else {
      this.lines.shift();
      this.lines.push(this.#blankLine(PLAIN));
    }
  }

  #up() {
    if (this.y > 0) this.y -= 1;
    else {
      this.lines.pop();
      this.lines.unshift(this.#blankLine(PLAIN));
    }
  }

  #right(n) {
    // Behind the last column the cursor still counts as being in it.
    const from = n < 0 && this.x === this.columns ? this.x - 1 : this.x;
    this.x = Math.max(0, Math.min(from + n, this.columns - 1));
  }

  #toRow(y) {
    this.y = Math.max(0, Math.min(y, this.rows - 1));
  }

  #sequence(params, final) {
    if (/^[<-?]/.test(params)) return; // private modes are no part of a picture
    if (final === "m") {
      this.#sgr(params);
      return;
    }
    const numbers = params.split(";").map((part) => Math.min(parseInt(part, 10) || 0, 9999));
    const n = numbers[0] || 1;
    switch (final) {
      case "A": this.#toRow(this.y - n); break;
      case "B": case "e": this.#toRow(this.y + n); break;
      case "C": case "a": this.#right(n); break;
      case "D": this.#right(-n); break;
      case "E": this.#toRow(this.y + n); this.x = 0; break;
      case "F": this.#toRow(this.y - n); this.x = 0; break;
      case "G": case "`": this.x = Math.min(n, this.columns) - 1; break;
      case "d": this.#toRow(n - 1); break;
      case "H": case "f":
        this.#toRow(n - 1);
        this.x = Math.min(numbers[1] || 1, this.columns) - 1;
        break;
      case "J": this.#eraseScreen(numbers[0]); break;
      case "K": this.#eraseLine(numbers[0]); break;
      case "X": this.#fill(this.lines[this.y], this.x, this.x + n); break;
      case "@": this.#insertCells(n); break;
      case "P": this.#deleteCells(n); break;
      case "L": this.#insertLines(n); break;
      case "M": this.#deleteLines(n); break;
      case "s": this.#escape("7"); break;
      case "u": this.#restore(); break;
      default:
    }
  }

  #fill(line, from, to) {
    for (let x = Math.max(0, from); x < Math.min(to, this.columns); x++) {
      line[x] = { char: " ", style: this.style };
    }
  }

  #eraseLine(how) {
    const from = how === 0 ? this.x : 0;
    const to = how === 1 ? this.x + 1 : this.columns;
    if (how <= 2) this.#fill(this.lines[this.y], from, to);
  }

  #eraseScreen(how) {
    const from = how === 0 ? this.y + 1 : 0;
    const to = how === 1 ? this.y : this.rows;
    if (how > 3) return;
    for (let y = from; y < to; y++) this.#fill(this.lines[y], 0, this.columns);
    if (how < 2) this.#eraseLine(how);
  }

  #insertCells(n) {
    const line = this.lines[this.y];
    const blanks = this.#blankLine(PLAIN).slice(0, n);
    line.splice(this.x, 0, ...blanks);
    line.length = this.columns;
  }

  #deleteCells(n) {
    const line = this.lines[this.y];
    const gone = line.splice(this.x, n).length;
    line.push(...this.#blankLine(PLAIN).slice(0, gone));
  }

  #insertLines(n) {
    const count = Math.min(n, this.rows - this.y);
    const blanks = Array.from({ length: count }, () => this.#blankLine(PLAIN));
    this.lines.splice(this.y, 0, ...blanks);
    this.lines.length = this.rows;
    this.x = 0;
  }

  #deleteLines(n) {
    const gone = this.lines.splice(this.y, n).length;
    for (let k = 0; k < gone; k++) this.lines.push(this.#blankLine(PLAIN));
    this.x = 0;
  }

  #sgr(params) {
    const codes = params
      .replace(/([34]8):2:[0-9]*:([0-9]+:[0-9]+:[0-9]+)/g, "$1:2:$2") // a colour space is left out
      .split(/[;:]/)
      .map((part) => parseInt(part, 10) || 0);
    let style = { ...this.style };
    while (codes.length) {
      const code = codes.shift();
      if (code === 0) style = { ...PLAIN };
      else if (code in SWITCHES) style[SWITCHES[code][0]] = SWITCHES[code][1];
      else if (code === 38 || code === 48) this.#colour(style, code === 38 ? "fg" : "bg", codes);
      else if (code >= 30 && code <= 37) style.fg = code - 30;
      else if (code === 39) style.fg = null;
      else if (code >= 40 && code <= 47) style.bg = code - 40;
      else if (code === 49) style.bg = null;
      else if (code >= 90 && code <= 97) style.fg = code - 90 + 8;
      else if (code >= 100 && code <= 107) style.bg = code - 100 + 8;
    }
    this.style = Object.freeze(style);
  }

  #colour(style, which, codes) {
    const kind = codes.shift();
    if (kind === 5) style[which] = paletteColour(codes.shift());
    else if (kind === 2) style[which] = hex(codes.splice(0, 3));
  }
}
