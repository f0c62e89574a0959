// Package plot draws charts of lines and bars as SVG.
package plot

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Point is a figure at X, with its range over the rounds.
type Point struct{ X, Y, Lo, Hi float64 }

// Series is what one rung gave.
type Series struct {
	Name   string
	Points []Point
}

// Chart is a plot with lines over numbers, or, with Groups, bars.
type Chart struct {
	Title, Note    string
	XLabel, YLabel string
	XLog, YLog     bool
	XTicks         []float64 // where the x are few known numbers
	Nines          bool      // y is a share that remains, named by nines
	Groups         []string  // bars: X is the index of a group
	Ref            float64   // a line across, what others are compared with; 0: none
	Series         []Series
}

// style is how a rung looks in every plot.
type style struct{ color, dash string }

// styles: the floor is black, the kernel warm, onload cold.
var styles = map[string]style{
	"raw":           {"#111111", ""},
	"raw-copy":      {"#555555", "2 2"},
	"net":           {"#d62728", ""},
	"net-free":      {"#ff9896", "5 3"},
	"net-nooffload": {"#c49c94", "2 2"},
	"tuned":         {"#ff7f0e", ""},
	"spin":          {"#b8860b", ""},
	"latency":       {"#1f77b4", ""},
	"balanced":      {"#17a2b8", "6 2"},
	"throughput":    {"#2ca02c", ""},
	"onload-net":    {"#7b5ea7", "6 2"},
	"net-onload":    {"#4b3f9e", "2 2"},
	"frames":        {"#7fb3d5", "4 2"},
	"frames-net":    {"#c5b0d5", "6 2"},
	"net-frames":    {"#9e9ac8", "2 2"},
	"gvisor":        {"#e377c2", ""},
	"gvisor-gso":    {"#8c1d6b", ""},
	"kernel":        {"#d62728", ""},
	"S":             {"#7b5ea7", ""},
	"C":             {"#17a2b8", ""},
	"SC":            {"#1f77b4", ""},
}

func styleOf(name string) style {
	if s, ok := styles[name]; ok {
		return s
	}
	return style{"#7f7f7f", ""}
}

// The drawing area.
const (
	width, height         = 860, 430
	left, right           = 84, 150 // right: the legend
	top, bottom           = 20, 56
	plotWidth, plotHeight = width - left - right, height - top - bottom
)

// axis maps numbers to pixels.
type axis struct {
	lo, hi float64
	log    bool
	ticks  []float64
}

func (a axis) at(v float64) float64 { // 0 to 1
	lo, hi := a.lo, a.hi
	if a.log {
		v, lo, hi = math.Log10(max(v, a.lo/10)), math.Log10(lo), math.Log10(hi)
	}
	return (v - lo) / (hi - lo)
}

// newAxis covers lo to hi, in decades with 1-2-5 steps, or from 0 in round
// steps.
func newAxis(lo, hi float64, log bool) axis {
	if log {
		a := axis{log: true, lo: floor125(lo), hi: ceil125(hi)}
		if a.lo == a.hi {
			a.hi = ceil125(a.hi * 1.5)
		}
		steps := []float64{1, 2, 5}
		if a.hi/a.lo > 2e3 {
			steps = []float64{1}
		}
		for d := math.Floor(math.Log10(a.lo)); d <= math.Ceil(math.Log10(a.hi)); d++ {
			for _, s := range steps {
				if v := s * math.Pow(10, d); v >= a.lo*0.999 && v <= a.hi*1.001 {
					a.ticks = append(a.ticks, v)
				}
			}
		}
		return a
	}
	if hi <= 0 {
		hi = 1
	}
	step := ceil125(hi / 6)
	a := axis{hi: step * math.Ceil(hi/step*0.9999)}
	for i := 0; float64(i)*step <= a.hi*1.001; i++ {
		a.ticks = append(a.ticks, float64(i)*step)
	}
	return a
}

func floor125(v float64) float64 {
	d := math.Pow(10, math.Floor(math.Log10(v)))
	for _, s := range []float64{5, 2, 1} {
		if s*d <= v*1.0001 {
			return s * d
		}
	}
	return d
}

func ceil125(v float64) float64 {
	d := math.Pow(10, math.Floor(math.Log10(v)))
	for _, s := range []float64{1, 2, 5, 10} {
		if s*d >= v*0.9999 {
			return s * d
		}
	}
	return 10 * d
}

// short names a number of an axis.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%gM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%gk", v/1e3)
	}
	return fmt.Sprintf("%.4g", v)
}

// canvas collects SVG.
type canvas struct{ strings.Builder }

func (c *canvas) line(x1, y1, x2, y2 float64, attrs string) {
	fmt.Fprintf(c, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" %s/>`, x1, y1, x2, y2, attrs)
}

func (c *canvas) text(x, y float64, attrs, s string) {
	fmt.Fprintf(c, `<text x="%.1f" y="%.1f" %s>%s</text>`, x, y, attrs, html.EscapeString(s))
}

// SVG draws the chart. It escapes the names that it takes from elsewhere.
func (ch *Chart) SVG() string {
	c := &canvas{}
	fmt.Fprintf(c, `<svg viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">`, width, height, width, height, html.EscapeString(ch.Title))
	lo, hi, xlo, xhi := math.Inf(1), 0., math.Inf(1), 0.
	for _, s := range ch.Series {
		for _, p := range s.Points {
			if p.Y > 0 {
				lo = min(lo, p.Y)
			}
			if p.Lo > 0 {
				lo = min(lo, p.Lo)
			}
			hi, xlo, xhi = max(hi, p.Y, p.Hi), min(xlo, p.X), max(xhi, p.X)
		}
	}
	y := newAxis(lo, hi, ch.YLog)
	if ch.Nines {
		y = axis{lo: math.Pow(10, math.Floor(math.Log10(lo))), hi: 1, log: true}
		for v := 1.; v >= y.lo*0.99; v /= 10 {
			y.ticks = append(y.ticks, v)
		}
	}
	py := func(v float64) float64 { return top + plotHeight*(1-min(1, max(0, y.at(v)))) }
	for _, t := range y.ticks {
		c.line(left, py(t), left+plotWidth, py(t), `class="grid"`)
		name := short(t)
		if ch.Nines {
			name = ninesName(t)
		}
		c.text(left-7, py(t)+4, `text-anchor="end"`, name)
	}
	if ch.Groups != nil {
		ch.bars(c, py)
	} else {
		ch.lines(c, newAxis(xlo, xhi, ch.XLog), py)
	}
	c.line(left, top+plotHeight, left+plotWidth, top+plotHeight, `class="axis"`)
	c.line(left, top, left, top+plotHeight, `class="axis"`)
	c.text(left+plotWidth/2, height-12, `text-anchor="middle" class="label"`, ch.XLabel)
	fmt.Fprintf(c, `<text transform="translate(18 %d) rotate(-90)" text-anchor="middle" class="label">%s</text>`, top+plotHeight/2, html.EscapeString(ch.YLabel))
	for i, s := range ch.Series {
		st, ly := styleOf(s.Name), float64(top+14+20*i)
		c.line(width-right+14, ly-4, width-right+38, ly-4, fmt.Sprintf(`stroke="%s" stroke-width="3" stroke-dasharray="%s"`, st.color, st.dash))
		c.text(width-right+44, ly, "", s.Name)
	}
	c.WriteString("</svg>")
	return c.String()
}

// ninesName names the share v of operations that take longer.
func ninesName(v float64) string {
	if v >= 0.99 {
		return "all"
	}
	digits := max(0, int(math.Round(-math.Log10(v)))-2)
	return fmt.Sprintf("p%.*f", digits, 100*(1-v))
}

func (ch *Chart) lines(c *canvas, x axis, py func(float64) float64) {
	if ch.XTicks != nil {
		x.ticks = ch.XTicks
		if ch.XLog && len(ch.XTicks) > 1 {
			x.lo, x.hi = ch.XTicks[0]/1.3, ch.XTicks[len(ch.XTicks)-1]*1.3
		}
	}
	px := func(v float64) float64 { return left + plotWidth*min(1, max(0, x.at(v))) }
	for _, t := range x.ticks {
		c.line(px(t), top, px(t), top+plotHeight, `class="grid"`)
		c.text(px(t), top+plotHeight+17, `text-anchor="middle"`, short(t))
	}
	for _, s := range ch.Series {
		st := styleOf(s.Name)
		var pts []string
		for _, p := range s.Points {
			pts = append(pts, fmt.Sprintf("%.1f,%.1f", px(p.X), py(p.Y)))
		}
		fmt.Fprintf(c, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.8" stroke-dasharray="%s"><title>%s</title></polyline>`,
			strings.Join(pts, " "), st.color, st.dash, html.EscapeString(s.Name))
		if ch.Nines {
			continue // hundreds of points, no ranges
		}
		for _, p := range s.Points {
			if p.Hi > p.Lo {
				c.line(px(p.X), py(p.Lo), px(p.X), py(p.Hi), fmt.Sprintf(`stroke="%s" stroke-width="1" opacity="0.6"`, st.color))
			}
			fmt.Fprintf(c, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%s at %s: %s (%s to %s)</title></circle>`,
				px(p.X), py(p.Y), st.color, html.EscapeString(s.Name), short(p.X), Number(p.Y), Number(p.Lo), Number(p.Hi))
		}
	}
}

func (ch *Chart) bars(c *canvas, py func(float64) float64) {
	group := float64(plotWidth) / float64(len(ch.Groups))
	w := group * 0.86 / float64(max(1, len(ch.Series)))
	for i, g := range ch.Groups {
		x, y := left+group*(float64(i)+0.5), float64(top+plotHeight+17)
		attrs := `text-anchor="middle"`
		if len(ch.Groups) > 8 { // side by side they would run into each other
			attrs = fmt.Sprintf(`text-anchor="end" transform="rotate(-25 %.1f %.1f)"`, x, y)
		}
		c.text(x, y, attrs, g)
	}
	if ch.Ref > 0 {
		c.line(left, py(ch.Ref), left+plotWidth, py(ch.Ref), `class="axis" stroke-dasharray="4 3"`)
	}
	for si, s := range ch.Series {
		st := styleOf(s.Name)
		for _, p := range s.Points {
			x0 := left + group*(p.X+0.07) + w*float64(si)
			fmt.Fprintf(c, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"><title>%s, %s: %s (%s to %s)</title></rect>`,
				x0, py(p.Y), max(1, w-1.5), top+plotHeight-py(p.Y), st.color, html.EscapeString(s.Name), html.EscapeString(ch.Groups[int(p.X)]),
				Number(p.Y), Number(p.Lo), Number(p.Hi))
			if p.Hi > p.Lo {
				mid := x0 + (w-1.5)/2
				c.line(mid, py(p.Lo), mid, py(p.Hi), `stroke="#555" stroke-width="1"`)
			}
			if len(ch.Groups)*len(ch.Series) <= 26 { // else they run into each other
				c.text(x0+w/2, py(max(p.Y, p.Hi))-4, `text-anchor="middle" class="small"`, brief(p.Y))
			}
		}
	}
}

// brief is a number for a narrow place.
func brief(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2fM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.0fk", v/1e3)
	case v >= 1e3:
		return fmt.Sprintf("%.1fk", v/1e3)
	}
	return Number(v)
}

// Number formats a figure with three digits that count.
func Number(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 1e6 || v <= -1e6:
		return fmt.Sprintf("%.3gM", v/1e6)
	case v >= 1e3 || v <= -1e3:
		return fmt.Sprintf("%.0f", v)
	case v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
