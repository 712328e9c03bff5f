package journal

import (
	"fmt"
	"time"
)

// Options are what a replay needs beside the base and the journal.
type Options struct {
	// EngineVersion is the version of the engine that ran the update, for the
	// manifest; "" when it is not known.
	EngineVersion string
	// Now is the time of the manifest.
	Now time.Time
	// Salvage applies what can be applied of a journal that is refused otherwise.
	Salvage bool
}

// Result is the outcome of a replay.
type Result struct {
	Deployment    []byte   // the untyped deployment, {"version":…,"deployment":{…}}
	Version       int      // its schema version: 3, or 4 when it uses features
	Features      []string // what it declares, sorted; nil when Version is 3
	ResourceCount int      // resources in it, those that wait for their deletion included
	Incomplete    int      // steps that had begun and not ended; each is a pending operation
	Salvaged      bool     // the journal was not sound and the rule for such journals was applied
	Gap           *Gap     // the hole in the journal, nil when it has none
	Skipped       []string // what could not be applied of an unsound journal, a public sentence each
	Integrity     string   // what is wrong with the deployment, "" when nothing is; also in its metadata
}

// Replay applies the entries of one update to base, the untyped deployment that the
// update started from, and returns the deployment that results. Nothing and null are
// empty bases. The order of entries and exact duplicates do not matter.
//
// Errors have a kind. A journal that is not sound is refused: with a *Gap when entries
// are missing, and with errs.Invalid when an entry contradicts the others, that is,
// names an operation without success, a base resource out of range, rewrites the base
// after a step, or follows a rebuilt base state that replaced new resources. With
// Options.Salvage such a journal is replayed by the rule below; a sound one is
// replayed as ever. Two things remain errors: errs.Conflict when two entries share a
// sequence number and differ, and errs.Invalid when base cannot be read.
//
// A deployment that fails its integrity check is no error. It is returned with
// Integrity set, since to refuse it would lose resources.
//
// # The rule for unsound journals
//
// The entries before a gap are replayed as ever. From there on (in a journal without a
// gap that contradicts itself: from the start) every entry that is left counts, under
// one rule: what was acknowledged is kept, and what an entry would take away goes
// only when it is certain which resource that is.
//
//   - A state that a success carries is in the result, unless a later entry replaces
//     or removes it. An entry that would change a resource in place whose success was
//     lost adds the resource instead.
//   - A reference to the base must agree in identity, URN (or alias) and ID, with the
//     state of its entry or the operation of the begin. When it does not, because the
//     gap swallowed what changed the numbering, the resource is looked for by its
//     identity. When there is none, the base stays as it is and Skipped says so. A
//     lost success of a step that changed nothing thus leaves the base's resource.
//   - Of two live resources with one URN the newer stays. The older is dropped when
//     it is the same physical resource (same ID) or was deleted for its replacement;
//     otherwise it is marked for deletion, so that no real resource is forgotten.
//   - The list is brought into topological order; an order that is right stays. Then
//     references to what is not there are removed as after a refresh, children go
//     to their nearest ancestor, and a provider that resources still need is put back
//     from the base, from its begin, or as a bare record of URN and ID.
//   - A begin whose end was lost is a pending operation, like any other.
func Replay(base []byte, entries []Entry, opts Options) (Result, error) {
	sorted, gap, err := arrange(entries)
	switch {
	case err != nil:
		return Result{}, err
	case gap != nil && !opts.Salvage:
		return Result{}, gap
	}
	start, err := readBase(base)
	if err != nil {
		return Result{}, err
	}
	r := &replay{}
	if gap == nil {
		err = r.run(start, sorted)
	}
	if gap != nil || err != nil && opts.Salvage {
		r = &replay{lenient: true, gap: gap}
		err = r.run(start, sorted)
	}
	if err != nil {
		return Result{}, err
	}
	return r.result(opts)
}

// result builds, checks and writes the deployment.
func (r *replay) result(opts Options) (Result, error) {
	d, err := r.build()
	if err != nil {
		return Result{}, fmt.Errorf("building the deployment: %w", err)
	}
	result := Result{
		ResourceCount: len(d.resources),
		Salvaged:      r.lenient,
		Gap:           r.gap,
		Skipped:       r.skipped,
		Integrity:     r.problem,
	}
	for _, e := range r.open {
		if e.pending != nil {
			result.Incomplete++
		}
	}
	if result.Integrity == "" {
		result.Integrity = d.check()
	}
	result.Features = d.features().names(d.foreign)
	result.Version = plainVersion
	if len(result.Features) > 0 {
		result.Version = featureVersion
	}
	if err := d.note(result.Integrity, result.Version); err != nil {
		return Result{}, fmt.Errorf("building the deployment: %w", err)
	}
	result.Deployment = d.encode(result.Version, result.Features, opts)
	return result, nil
}
