package web

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// updateLog is what an update did, read from the engine's events.
type updateLog struct {
	Changes   []change
	Unchanged int64 // resources that are not among Changes
	Counts    []opCount
	Lines     []logLine
	Problems  int64 // lines that are errors
	Cut       bool  // there are more events than a page shows
}

// change is what happened to one resource.
type change struct {
	Name, Type, URN, ID string
	Op                  string // the class of the operation
	Sign, Word          string
	State               string // done, running, stopped or failed
	Diff                []diffLine
	Provider            bool
}

type diffLine struct {
	Sign, Tone, Path string
	Old, New         *value
	Replaces         bool // the change of this property made the engine replace the resource
}

type logLine struct {
	Time               time.Time
	Severity, Resource string // Severity is info, warning or error
	Text               string
}

// maxDiff bounds the properties shown of one resource, maxLines the log.
const (
	maxDiff  = 200
	maxLines = 5000
)

// viewEvents reads the events of an update. While it is running, a resource without
// a result is being worked on; afterwards it was left in the middle.
func viewEvents(events []wireEvent, running, all bool) updateLog {
	slices.SortStableFunc(events, func(a, b wireEvent) int { return cmp.Compare(a.Sequence, b.Sequence) })
	var log updateLog
	steps := newSteps()
	for i := range events {
		e := &events[i]
		switch {
		case e.ResourcePre != nil:
			steps.add(e.ResourcePre, "begun")
		case e.ResOutputs != nil:
			steps.add(e.ResOutputs, "done")
		case e.ResFailed != nil:
			steps.add(e.ResFailed, "failed")
		case e.Summary != nil:
			log.Counts = countOps(e.Summary.Changes)
		default:
			if line, ok := viewLine(e); ok && len(log.Lines) < maxLines {
				log.Lines = append(log.Lines, line)
				log.Problems += int64(btoi(line.Severity == "error"))
			}
		}
	}
	counts := make(map[string]int64)
	for _, s := range steps.order {
		if s.state == "done" {
			counts[s.op]++ // what is under way, or failed, has not happened
		}
		if s.op == "same" && s.state != "failed" && !all {
			log.Unchanged++
			continue
		}
		log.Changes = append(log.Changes, s.view(running))
	}
	if log.Counts == nil {
		log.Counts = countOps(counts)
	}
	return log
}

// foretell words what a preview found as what would happen, since nothing has.
func (l *updateLog) foretell() {
	for i := range l.Changes {
		if c := &l.Changes[i]; c.State == "done" && c.Op != "same" {
			c.Word = "to " + ops[c.Op].doing
		}
	}
}

// step collects the events of one resource. A replacement is several steps of the
// engine (create the new one, delete the old one) and one for a reader.
type step struct {
	urn, kind, op, state string
	id                   string
	old, new             *wireState
	keys                 []string
	detail               map[string]wirePropChange
}

type steps struct {
	order []*step
	byURN map[string]*step
}

func newSteps() *steps { return &steps{byURN: make(map[string]*step)} }

func (s *steps) add(w *wireStep, state string) {
	m := &w.Metadata
	class := opClass(m.Op)
	at, ok := s.byURN[m.URN]
	if !ok {
		at = &step{urn: m.URN, kind: m.Type, op: class}
		s.byURN[m.URN] = at
		s.order = append(s.order, at)
	}
	switch {
	case at.op == "same" || at.op == "read", class == "replace":
		at.op = class
	}
	if at.state != "failed" {
		at.state = state
	}
	if m.Old != nil {
		at.old = cmp.Or(at.old, m.Old)
	}
	// Of the two events of a step the later knows the outputs.
	if m.New != nil && (m.Op != "delete-replaced" || at.new == nil) {
		at.new = m.New
		at.id = cmp.Or(m.New.ID, at.id)
	}
	if at.id == "" && m.Old != nil {
		at.id = m.Old.ID
	}
	if len(m.Diffs) > 0 {
		at.keys = m.Diffs
	}
	if len(m.Detail) > 0 {
		at.detail = m.Detail
	}
	if m.Op == "refresh" && at.op == "same" && len(at.diff()) > 0 {
		at.op = "update"
	}
}

func (s *step) view(running bool) change {
	c := change{
		Name: shortURN(s.urn), Type: s.kind, URN: s.urn, ID: s.id, Op: s.op, Sign: ops[s.op].sign, State: s.state,
		Diff: s.diff(), Provider: strings.HasPrefix(s.kind, providerPrefix),
	}
	switch {
	case s.state == "failed":
		c.Word = "failed to " + ops[s.op].doing
	case s.state == "done":
		c.Word = ops[s.op].past
	case running:
		c.State, c.Word = "running", ops[s.op].doing
	default:
		c.State, c.Word = "stopped", ops[s.op].doing+", not finished"
	}
	if s.op == "same" && s.state == "failed" {
		c.Word = "failed"
	}
	return c
}

// diff returns the properties that the step changed: as the provider said, or else
// as the inputs differ.
func (s *step) diff() []diffLine {
	var d differ
	switch {
	case s.op == "create" || s.op == "read":
		d.compare("", value{kind: '{'}, s.new.input())
	case s.op == "delete":
		d.compare("", s.old.input(), value{kind: '{'})
	case len(s.detail) > 0:
		d.detailed(s)
	case s.old == nil || s.new == nil:
	default:
		d.compare("", s.old.input(), s.new.input())
		if len(d.lines) == 0 && s.op == "same" {
			break
		}
		d.named(s)
	}
	return d.lines
}

func (w *wireState) input() value {
	if w == nil || len(w.Inputs) == 0 {
		return value{kind: '{'}
	}
	return parseValue(w.Inputs)
}

func (w *wireState) output() value {
	if w == nil || len(w.Outputs) == 0 {
		return value{kind: '{'}
	}
	return parseValue(w.Outputs)
}

// differ collects lines up to a bound.
type differ struct{ lines []diffLine }

func (d *differ) add(path string, before, after *value, replaces bool) {
	if len(d.lines) == maxDiff {
		return
	}
	line := diffLine{Sign: "~", Tone: "update", Path: path, Old: before, New: after, Replaces: replaces}
	switch {
	case before == nil && after != nil:
		line.Sign, line.Tone = "+", "create"
	case after == nil && before != nil:
		line.Sign, line.Tone = "−", "delete"
	}
	d.lines = append(d.lines, line)
}

// compare walks two values and adds what differs, objects member by member.
func (d *differ) compare(path string, before, after value) {
	if before.equal(after) {
		return
	}
	if before.kind != '{' || after.kind != '{' {
		d.add(path, &before, &after, false)
		return
	}
	var names []string
	for _, m := range before.members {
		names = append(names, m.name)
	}
	for _, m := range after.members {
		if _, ok := before.at(m.name); !ok {
			names = append(names, m.name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if path == "" && strings.HasPrefix(name, "__") {
			continue
		}
		at := joinPath(path, name)
		b, hadBefore := before.at(name)
		a, hasAfter := after.at(name)
		switch {
		case !hadBefore:
			d.add(at, nil, &a, false)
		case !hasAfter:
			d.add(at, &b, nil, false)
		default:
			d.compare(at, b, a)
		}
	}
}

// detailed adds the changes that the provider reported.
func (d *differ) detailed(s *step) {
	paths := make([]string, 0, len(s.detail))
	for path := range s.detail {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		change := s.detail[path]
		old := s.old.output()
		if change.Input {
			old = s.old.input()
		}
		kind, replaces := strings.CutSuffix(change.Kind, "-replace")
		var before, after *value
		if v, ok := old.lookup(path); ok && kind != "add" {
			before = &v
		}
		if v, ok := s.new.input().lookup(path); ok && kind != "delete" {
			after = &v
		} else if v, ok := s.new.output().lookup(path); ok && kind != "delete" {
			after = &v
		}
		d.add(path, before, after, replaces)
	}
}

// named adds the properties that the engine says differ and the comparison did not
// find: those whose old and new values are secrets.
func (d *differ) named(s *step) {
	for _, key := range s.keys {
		if slices.ContainsFunc(d.lines, func(l diffLine) bool {
			return l.Path == key || strings.HasPrefix(l.Path, key+".") || strings.HasPrefix(l.Path, key+"[")
		}) {
			continue
		}
		var before, after *value
		if v, ok := s.old.input().lookup(key); ok {
			before = &v
		}
		if v, ok := s.new.input().lookup(key); ok {
			after = &v
		}
		d.add(key, before, after, false)
	}
}

func joinPath(path, name string) string {
	if strings.ContainsAny(name, ".[]\"") || name == "" {
		return path + `["` + strings.ReplaceAll(name, `"`, `\"`) + `"]`
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// viewLine returns the line of the log that e makes, if it makes one.
func viewLine(e *wireEvent) (logLine, bool) {
	line := logLine{Time: seconds(e.Timestamp), Severity: "info"}
	switch {
	case e.Diagnostic != nil:
		line.Text, line.Resource = plain(e.Diagnostic.Message), shortURN(e.Diagnostic.URN)
		switch e.Diagnostic.Severity {
		case "error", "warning":
			line.Severity = e.Diagnostic.Severity
		}
	case e.Stdout != nil:
		line.Text = plain(e.Stdout.Message)
	case e.Error != nil:
		line.Text, line.Severity = plain(e.Error.Error), "error"
	case e.Cancel != nil:
		line.Text, line.Severity = "The update was cancelled.", "warning"
	case e.Policy != nil:
		line.Text = plain("Policy " + e.Policy.Pack + "/" + e.Policy.Policy + ": " + e.Policy.Message)
		line.Resource, line.Severity = shortURN(e.Policy.URN), "warning"
		if e.Policy.Level == "mandatory" {
			line.Severity = "error"
		}
	}
	line.Text = cut(strings.TrimRight(line.Text, "\n\t "))
	return line, strings.TrimSpace(line.Text) != ""
}
