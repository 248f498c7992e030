package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/penstock-ot/penstock/internal/api"
	"github.com/penstock-ot/penstock/internal/policy"
	"github.com/penstock-ot/penstock/internal/store"
)

// applier puts a compiled policy in force, whole or not at all.
type applier interface {
	Apply(plan *policy.Plan, version uint64) (generation uint32, err error)
}

// candidate is a policy that parsed and compiled for this appliance.
type candidate struct {
	name string
	raw  []byte
	plan *policy.Plan
	// lapsed says which conduits open by a waiver that is over: nobody applies that anew, what is in force goes on, and
	// who goes back to it is told.
	lapsed error
}

// policies holds what policy is in force and takes every change of it: the store first learns
// of a version, then the kernel gets it, then the store learns that it is in force. A crash
// between any two leaves a policy in force that the store knows.
type policies struct {
	appliance string
	file      string
	store     *store.Store // nil where it could not be opened
	log       *slog.Logger
	tell      func(what string) // of what people do beside changing the policy

	mu       sync.Mutex
	path     applier
	plan     *policy.Plan
	raw      []byte // the text of the version in force
	version  store.Version
	islands  islands
	since    time.Time
	fileErr  error // why the policy file could not be used when it was read last
	confirm  time.Time
	rollback *time.Timer
	closed   bool
	notes    []string // why things are not as the file says
}

// start chooses the policy to begin with: the one that the store says is in force, else the
// file. It puts nothing in force; first does, once the fast path is there.
func (p *policies) start() (candidate, store.Version, error) {
	p.restoreIslands(time.Now())
	if c, v, ok := p.cached(); ok {
		p.compareFile(c.raw, v)
		return c, v, nil
	}
	c, err := p.read(p.file, p.compileToStart)
	if err != nil {
		p.log.Warn("no policy is cached to run on instead of the file")
		return candidate{}, store.Version{}, err
	}
	v, err := p.put(c, "start")
	if err != nil {
		p.note("the policy in force is not cached: %v", err)
	}
	return c, v, nil
}

// cached reads the policy that the store says is in force. A change that was waiting to be
// confirmed while the daemon was away too long is rolled back.
func (p *policies) cached() (candidate, store.Version, bool) {
	if p.store == nil {
		return candidate{}, store.Version{}, false
	}
	if a, overdue, err := p.activation(time.Now()); err == nil && overdue {
		p.note("version %d was not confirmed in time: back to version %d", a.Active, a.Previous)
		if _, err := p.store.Activate(a.Previous, "rollback at start", time.Time{}); err != nil {
			p.note("the store did not take the rollback: %v", err)
		}
	}
	v, raw, err := p.store.ActivePolicy()
	if errors.Is(err, store.ErrNotFound) {
		return candidate{}, v, false
	}
	if err == nil {
		var c candidate
		if c, err = p.compileToStart(v.Name, raw); err == nil {
			return c, v, true
		}
	}
	p.note("the cached policy cannot be used, so %s is: %v", p.file, err)
	return candidate{}, v, false
}

// keptTrial is a policy's trial as the store has it: of the activation that began then.
type keptTrial struct {
	Since time.Time `json:"since"`
	deadline
}

// activation returns what the store says is in force, and whether that was to be confirmed by now. Where the machine has
// run since, its own clock tells; else that of the wall.
func (p *policies) activation(now time.Time) (a store.Activation, overdue bool, err error) {
	if a, err = p.store.Activation(); err != nil || !a.Pending() {
		return a, false, err
	}
	var kept keptTrial
	if err := p.store.State(store.StateTrial, &kept); err == nil && kept.Since.Equal(a.Since) {
		if end, ok := kept.at(now); ok {
			a.ConfirmBy = end
			return a, !now.Before(end), nil
		}
	}
	return a, a.Overdue(now), nil
}

// compareFile says so where the file is not what is in force.
func (p *policies) compareFile(raw []byte, v store.Version) {
	c, err := p.read(p.file, func(name string, raw []byte) (candidate, error) {
		return p.compile(name, raw, nil) // closed zones concern what is in force: this is only looked at
	})
	switch {
	case err != nil:
		p.note("running on the cached policy, version %d of %s, because: %v", v.Number, v.Time.Format(time.RFC3339), err)
	case string(c.raw) != string(raw):
		p.note("the cached policy, version %d, is in force, and %s differs from it: penstock policy apply, or SIGHUP, applies the file", v.Number, p.file)
	}
}

// planOf finds the plan of a policy that was put in force before, if it is the one given or the store
// has it.
func (p *policies) planOf(hash string, number uint64, now candidate) (*policy.Plan, bool) {
	if now.plan.Hash == hash {
		return now.plan, true
	}
	if p.store == nil || number == 0 {
		return nil, false
	}
	v, raw, err := p.store.Policy(number)
	if err != nil {
		return nil, false
	}
	c, _, err := p.compileBack(v.Name, raw)
	if err != nil || c.plan.Hash != hash {
		return nil, false
	}
	return c.plan, true
}

func (p *policies) note(format string, args ...any) {
	note := fmt.Sprintf(format, args...)
	p.notes = append(p.notes, note)
	p.log.Warn(note)
}

// first puts the policy in force with which the daemon starts.
func (p *policies) first(path applier, c candidate, v store.Version) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.path = path
	if _, err := path.Apply(c.plan, v.Number); err != nil {
		return err
	}
	p.plan, p.raw, p.version, p.since = c.plan, c.raw, v, time.Now()
	p.awaitIslands()
	if p.store == nil {
		return nil
	}
	a, _, err := p.activation(time.Now())
	if err == nil && a.Active != v.Number {
		a, err = p.store.Activate(v.Number, "start", time.Time{})
	}
	if err != nil {
		p.note("the policy in force could not be cached: %v", err)
		return nil
	}
	p.since = a.Since
	p.await(a.ConfirmBy)
	return nil
}

// read reads a policy file and compiles it.
func (p *policies) read(file string, compile func(name string, raw []byte) (candidate, error)) (c candidate, err error) {
	defer func() { p.fileErr = err }()
	// Reading a pipe would wait for whoever writes, and everything that needs the policy with it.
	if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
		return candidate{}, fmt.Errorf("read the policy: %s is no regular file", file)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return candidate{}, fmt.Errorf("read the policy: %w", err)
	}
	return compile(file, raw)
}

// compileToApply compiles a policy that has to keep closed what is closed. Callers hold the lock.
func (p *policies) compileToApply(name string, raw []byte) (candidate, error) {
	return p.compile(name, raw, p.islands.closed)
}

// compileToStart compiles a policy to start with. One that cannot keep the closed zones closed opens them: a line that does
// not come up helps nobody.
func (p *policies) compileToStart(name string, raw []byte) (candidate, error) {
	c, opens, err := p.compileBack(name, raw)
	if opens != nil {
		p.note("zones that were closed are open, which the policy to start with cannot keep closed: %v", opens)
		p.islands.closed = map[string]api.Island{}
	}
	return c, err
}

// compile compiles a policy with zones closed.
func (p *policies) compile(name string, raw []byte, closed map[string]api.Island) (candidate, error) {
	parsed, err := policy.Parse(name, raw)
	if err != nil {
		return candidate{}, err
	}
	closing, err := p.closing(parsed, closed)
	if err != nil {
		return candidate{}, api.Refuse(api.CodeConflict, fmt.Errorf("%w; or open the zone first: penstock island --end", err))
	}
	plan, err := closing.Compile(p.appliance)
	if err != nil {
		return candidate{}, api.Refuse(api.CodePolicyWrong, err) // not for this appliance
	}
	return candidate{name: name, raw: raw, plan: plan, lapsed: parsed.CheckWaivers(time.Now())}, nil
}

// put stores a version without putting it in force. With an error the version has no number.
func (p *policies) put(c candidate, who string) (store.Version, error) {
	unnumbered := store.Version{Hash: c.plan.Hash, Site: c.plan.Site, Name: c.name}
	if p.store == nil {
		return unnumbered, nil
	}
	v, err := p.store.PutPolicy(store.Version{Site: c.plan.Site, Name: c.name, Who: who}, c.raw)
	if err != nil {
		return unnumbered, fmt.Errorf("cache the policy: %w", err)
	}
	return v, nil
}

// apply puts a candidate in force and records it. Callers hold the lock.
func (p *policies) apply(c candidate, who string, confirmWithin time.Duration) (api.Applied, error) {
	before, previous := inForce{p.plan, p.raw}, p.version
	v, notCached := p.put(c, who)
	if notCached != nil && !errors.Is(notCached, store.ErrReadOnly) {
		return api.Applied{}, notCached
	}
	if confirmWithin > 0 && v.Number == 0 {
		return api.Applied{}, api.Refuse(api.CodeConflict, errors.New("the policy cannot be applied on trial: the store takes no versions, so there would be nothing to go back to"))
	}
	var confirmBy time.Time
	if confirmWithin > 0 {
		confirmBy = time.Now().Add(confirmWithin)
	}
	out := api.Applied{Version: v.Number, Hash: v.Hash, Site: v.Site, Previous: previous.Number}
	if confirmWithin > 0 && previous.Number == 0 {
		return api.Applied{}, api.Refuse(api.CodeConflict, store.ErrNoEarlier)
	}
	out.Unchanged = v.Number == previous.Number && v.Hash == previous.Hash
	if !out.Unchanged {
		if _, err := p.path.Apply(c.plan, v.Number); err != nil {
			return api.Applied{}, fmt.Errorf("%w: the policy before goes on", err)
		}
		p.plan, p.raw, p.version, p.since, p.notes = c.plan, c.raw, v, time.Now(), nil
		p.log.Info("policy in force", "version", v.Number, "hash", v.Hash, "who", who)
	}
	// Also for what is in force already: applied again it may begin, or end, to wait for
	// confirmation.
	if notCached != nil {
		p.note("the policy in force is not cached, a restart goes back to the one before: %v", notCached)
		out.Warnings = append(out.Warnings, p.notes...)
	}
	if p.store == nil || v.Number == 0 {
		return out, nil
	}
	a, err := p.store.Activate(v.Number, who, confirmBy)
	if err != nil && confirmWithin > 0 {
		return api.Applied{}, p.giveUpTrial(before, previous, err)
	}
	if err != nil {
		p.note("the policy is in force, and the store could not record that: %v", err)
		out.Warnings = append(out.Warnings, p.notes...)
		return out, nil
	}
	out.ConfirmBy, out.Previous = a.ConfirmBy, a.Previous
	if a.Pending() {
		a.ConfirmBy = confirmBy // which compares by the clock that only goes forward, as that of the store does not
		if err := p.store.PutState(store.StateTrial, keptTrial{a.Since, deadlineOf(confirmBy, time.Now())}); err != nil {
			p.note("after a restart the trial ends by the clock of the wall, whoever has set that: %v", err)
			out.Warnings = append(out.Warnings, p.notes...)
		}
	}
	p.await(a.ConfirmBy)
	return out, nil
}

// inForce is a policy and its text.
type inForce struct {
	plan *policy.Plan
	raw  []byte
}

// giveUpTrial puts the policy before in force again, because the store could not record the trial
// of another and so nobody would ever roll that one back. It returns what to tell the caller.
func (p *policies) giveUpTrial(before inForce, version store.Version, cause error) error {
	err := fmt.Errorf("the policy cannot be applied on trial: %w", cause)
	if p.version.Number == version.Number {
		return err // it was in force before
	}
	if _, back := p.path.Apply(before.plan, version.Number); back != nil {
		p.note("a policy meant for a trial is in force for good: %v; and the one before could not be put back: %v", cause, back)
		return errors.Join(err, back)
	}
	p.plan, p.raw, p.version, p.since = before.plan, before.raw, version, time.Now()
	p.log.Info("policy in force", "version", version.Number, "hash", version.Hash, "who", "a trial that was given up")
	return err
}

// rollbackRetry is when a rollback that failed is tried again.
const rollbackRetry = 10 * time.Second

// await rolls the policy back when its time to be confirmed is over. Callers hold the lock.
func (p *policies) await(confirmBy time.Time) {
	if p.rollback != nil {
		p.rollback.Stop()
		p.rollback = nil
	}
	p.confirm = confirmBy
	if confirmBy.IsZero() {
		return
	}
	told := false
	p.rollback = time.AfterFunc(time.Until(confirmBy), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.closed || !p.confirm.Equal(confirmBy) {
			return
		}
		_, err := p.revert(0, "not confirmed in time")
		if err == nil {
			return
		}
		if !told {
			told = true
			p.note("the policy was not confirmed in time, and could not be rolled back; it is tried again every %v: %v", rollbackRetry, err)
		}
		p.rollback.Reset(rollbackRetry)
	})
}

// revert puts a stored version in force; 0 is the one before. Callers hold the lock.
func (p *policies) revert(number uint64, who string) (api.Applied, error) {
	if p.store == nil {
		return api.Applied{}, api.Refuse(api.CodeConflict, errors.New("there is no store, and so no earlier policy"))
	}
	a, err := p.store.Activation()
	if err != nil {
		return api.Applied{}, err
	}
	if number == 0 {
		number = a.Previous
	}
	if number == 0 {
		return api.Applied{}, api.Refuse(api.CodeConflict, store.ErrNoEarlier)
	}
	v, raw, err := p.store.Policy(number)
	if errors.Is(err, store.ErrNotFound) {
		return api.Applied{}, api.Refuse(api.CodeNotFound, err)
	}
	if err != nil {
		return api.Applied{}, err
	}
	c, opens, err := p.compileBack(v.Name, raw)
	if err != nil {
		return api.Applied{}, err
	}
	previous := p.version.Number
	if _, err := p.path.Apply(c.plan, v.Number); err != nil {
		return api.Applied{}, fmt.Errorf("%w: the policy before goes on", err)
	}
	p.plan, p.raw, p.version, p.since = c.plan, c.raw, v, time.Now()
	p.log.Info("policy rolled back", "version", v.Number, "who", who)
	if opens != nil {
		p.openAll("the policy that was gone back to cannot keep them closed")
	}
	p.await(time.Time{})
	out := api.Applied{Version: v.Number, Hash: v.Hash, Site: v.Site, Previous: previous}
	var lapsed policy.ErrorList
	errors.As(c.lapsed, &lapsed)
	for _, l := range lapsed {
		out.Warnings = append(out.Warnings, l.Message)
	}
	if _, err := p.store.Activate(v.Number, who, time.Time{}); err != nil {
		p.note("the policy was rolled back, and the store could not record that: %v", err)
		out.Warnings = append(out.Warnings, p.notes...)
	}
	return out, nil
}

// close ends the timer. What waits for confirmation waits on, in the store.
func (p *policies) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.confirm = time.Time{} // for a timer that has fired already and waits for the lock
	if p.rollback != nil {
		p.rollback.Stop()
	}
	if p.islands.timer != nil {
		p.islands.timer.Stop()
	}
	p.closed = true
	p.path = pathAtEnd{} // of who asks still, the fast path is closed next
}

// pathAtEnd is the fast path when the daemon ends.
type pathAtEnd struct{}

func (pathAtEnd) Apply(*policy.Plan, uint64) (uint32, error) {
	return 0, errors.New("apply the policy: penstockd is ending: ask the next one")
}

// ApplyPolicy implements api.Backend.
func (p *policies) ApplyPolicy(_ context.Context, s api.Submission) (api.Applied, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, err := p.compileToApply(s.Name, s.Raw)
	if err != nil {
		return api.Applied{}, err
	}
	if c.lapsed != nil {
		return api.Applied{}, c.lapsed
	}
	return p.apply(c, s.Who, s.ConfirmWithin)
}

// Reload implements api.Backend. Where the file holds the policy that is on trial the trial goes on:
// who rotates logs or restarts services does not mean to confirm it.
func (p *policies) Reload(_ context.Context, who string) (api.Applied, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, err := p.read(p.file, p.compileToApply)
	if err != nil {
		return api.Applied{}, err
	}
	if !p.confirm.IsZero() && c.plan.Hash == p.version.Hash {
		return api.Applied{
			Version: p.version.Number, Hash: p.version.Hash, Site: p.version.Site,
			Unchanged: true, ConfirmBy: byTheWall(p.confirm, time.Now()),
		}, nil
	}
	if c.lapsed != nil {
		return api.Applied{}, c.lapsed
	}
	return p.apply(c, who, 0)
}

// ConfirmPolicy implements api.Backend.
func (p *policies) ConfirmPolicy(_ context.Context, who string) (api.Applied, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.store == nil {
		return api.Applied{}, api.Refuse(api.CodeConflict, store.ErrNoPending)
	}
	a, err := p.store.Confirm()
	if errors.Is(err, store.ErrNoPending) {
		return api.Applied{}, api.Refuse(api.CodeConflict, err)
	}
	if err != nil {
		return api.Applied{}, err
	}
	p.await(time.Time{})
	p.log.Info("policy confirmed", "version", a.Active, "who", who)
	return api.Applied{Version: a.Active, Hash: p.version.Hash, Site: p.version.Site, Previous: a.Previous}, nil
}

// RollbackPolicy implements api.Backend.
func (p *policies) RollbackPolicy(_ context.Context, version uint64, who string) (api.Applied, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.revert(version, who)
}

// PolicyHistory implements api.Backend.
func (p *policies) PolicyHistory(_ context.Context, limit int) ([]api.PolicyVersion, error) {
	if p.store == nil {
		return nil, nil
	}
	versions, err := p.store.History(limit)
	if err != nil {
		return nil, err
	}
	a, err := p.store.Activation()
	if err != nil {
		return nil, err
	}
	list := make([]api.PolicyVersion, len(versions))
	for i, v := range versions {
		list[i] = describe(v, a)
	}
	return list, nil
}

// Policy implements api.Backend.
func (p *policies) Policy(_ context.Context, number uint64) (api.PolicyDocument, error) {
	if p.store == nil {
		return api.PolicyDocument{}, api.Refuse(api.CodeNotFound, store.ErrNotFound)
	}
	a, err := p.store.Activation()
	if err != nil {
		return api.PolicyDocument{}, err
	}
	if number == 0 {
		number = a.Active
	}
	v, raw, err := p.store.Policy(number)
	if errors.Is(err, store.ErrNotFound) {
		return api.PolicyDocument{}, api.Refuse(api.CodeNotFound, err)
	}
	if err != nil {
		return api.PolicyDocument{}, err
	}
	return api.PolicyDocument{PolicyVersion: describe(v, a), Text: string(raw)}, nil
}

func describe(v store.Version, a store.Activation) api.PolicyVersion {
	state := api.VersionStored
	switch {
	case v.Number == a.Active && a.Pending():
		state = api.VersionPending
	case v.Number == a.Active:
		state = api.VersionActive
	case v.Number == a.Previous:
		state = api.VersionPrevious
	}
	return api.PolicyVersion{
		Version: v.Number, Hash: v.Hash, Site: v.Site, Name: v.Name,
		Time: v.Time, Who: v.Who, Size: v.Size, State: state,
	}
}
