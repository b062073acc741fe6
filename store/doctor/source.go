package doctor

import (
	"context"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/store/postgres"
)

// Thresholds are the ages and sizes above which a finding is a warning.
type Thresholds struct {
	OldSnapshot time.Duration // of a session or a prepared transaction
	LongLedger  int64         // rows that wait for a fold
	OldLedger   time.Duration // of the oldest such row
	ClockSkew   time.Duration // between the database and this machine
}

// DefaultThresholds returns those of the command and the console.
func DefaultThresholds() Thresholds {
	return Thresholds{OldSnapshot: 5 * time.Minute, LongLedger: 20_000, OldLedger: 10 * time.Minute, ClockSkew: 5 * time.Second}
}

// Source examines a PostgreSQL database.
type Source struct {
	DB         *postgres.Inspector
	Config     Config
	Thresholds Thresholds
}

// OpenSource returns a Source with the default thresholds; the caller closes its DB.
// No connection is made yet. The error is [postgres.ErrAddress] for an address that
// can't be read.
func OpenSource(ctx context.Context, address string, c Config) (*Source, error) {
	db, err := postgres.Inspect(ctx, address, postgres.Options{LeaseColumn: c.LeaseColumn})
	if err != nil {
		return nil, err
	}
	return &Source{DB: db, Config: c, Thresholds: DefaultThresholds()}, nil
}

// Examine runs every check, of the database and of what serve would be told.
func (s *Source) Examine(ctx context.Context) report.Report {
	return s.report(append(s.findings(ctx), run(ctx, s.Config.checks())...))
}

// ExamineWebhook runs the checks that concern webhooks and their calls.
func (s *Source) ExamineWebhook(ctx context.Context) report.Report {
	return s.report(run(ctx, []check{s.webhookCheck(), s.deliveriesCheck(), s.extensionsCheck()}))
}

func (s *Source) report(found []report.Finding) report.Report {
	return report.New(s.DB.Target().String(), report.KindSource, found)
}

// findings leaves out what needs a connection, the table or the migrations where
// there is none: one finding has said so.
func (s *Source) findings(ctx context.Context) []report.Finding {
	link, err := s.DB.Link(ctx)
	if err != nil {
		f := unreachable(ctx, s.DB.Target(), err)
		f.Check = "connection"
		return []report.Finding{f}
	}
	var role postgres.Role
	var schema postgres.Schema
	found := run(ctx, []check{
		{"connection", func(context.Context) ([]report.Finding, error) { return linkFindings(link), nil }},
		{"encryption", one(func(context.Context) (report.Finding, error) { return tlsFinding(link), nil })},
		{"clock", one(func(context.Context) (report.Finding, error) { return s.Thresholds.clockFinding(link), nil })},
		{"role", func(ctx context.Context) (found []report.Finding, err error) {
			role, err = s.DB.Role(ctx)
			return roleFindings(role), err
		}},
		{"migrations", func(ctx context.Context) (found []report.Finding, err error) {
			if schema, err = s.DB.Schema(ctx); err != nil {
				schema.Version = schema.Latest // they may be there; the other checks say more
				return nil, err
			}
			return schemaFindings(schema), nil
		}},
	})
	if schema.Version > 0 {
		found = append(found, run(ctx, s.installedChecks())...)
	}
	if role.Table || role.Name == "" {
		found = append(found, run(ctx, s.tableChecks())...)
	}
	return append(found, run(ctx, s.surroundingChecks())...)
}

// installedChecks look at what the migrations have made.
func (s *Source) installedChecks() []check {
	return []check{
		{"functions", func(ctx context.Context) ([]report.Finding, error) {
			f, err := s.DB.Functions(ctx)
			return functionFindings(f), err
		}},
		{"grants", func(ctx context.Context) ([]report.Finding, error) {
			g, err := s.DB.Grants(ctx)
			return grantFindings(g), err
		}},
		{"triggers", func(ctx context.Context) ([]report.Finding, error) {
			all, expected, err := s.DB.Triggers(ctx)
			return triggerFindings(all, expected), err
		}},
		{"settings", func(ctx context.Context) ([]report.Finding, error) {
			on, err := s.DB.Switches(ctx)
			return switchFindings(on), err
		}},
		{"policy", one(func(ctx context.Context) (report.Finding, error) {
			on, err := s.DB.Switches(ctx)
			return s.Config.policyFinding(on.Policy), err
		})},
		{"counts", one(func(ctx context.Context) (report.Finding, error) {
			from := store.NewID() // a page that begins anywhere, so that each look sees another
			all, err := s.DB.Drift(ctx, store.KeyOf(from, from, store.ID{}), sample)
			return driftFinding(all), err
		})},
		{"partitions", func(ctx context.Context) ([]report.Finding, error) {
			all, err := s.DB.Partitions(ctx)
			return partitionFindings(all), err
		}},
		{"ledger", one(func(ctx context.Context) (report.Finding, error) {
			l, err := s.DB.Ledger(ctx)
			return s.Thresholds.ledgerFinding(l), err
		})},
		{"dead letters", one(func(ctx context.Context) (report.Finding, error) {
			h, err := s.DB.Health(ctx)
			return deadLettersFinding(h), err
		})},
	}
}

// tableChecks look at the runs.
func (s *Source) tableChecks() []check {
	return []check{
		{"runs", func(ctx context.Context) ([]report.Finding, error) {
			h, err := s.DB.Health(ctx)
			return runFindings(h), err
		}},
		{"stuck runs", one(func(ctx context.Context) (report.Finding, error) {
			limits, err := store.ParseLimits(s.Config.StuckAfter)
			if err != nil {
				limits = store.DefaultLimits() // another line says what is wrong with them
			}
			stuck, err := s.DB.Stuck(ctx, store.FailStuck{Now: time.Now(), Limits: limits, Max: maxStuck})
			return s.Config.stuckFinding(stuck), err
		})},
		s.webhookCheck(),
	}
}

// surroundingChecks look at what stands around the table.
func (s *Source) surroundingChecks() []check {
	return []check{
		s.deliveriesCheck(),
		s.extensionsCheck(),
		{"snapshots", func(ctx context.Context) ([]report.Finding, error) {
			all, blind, err := s.DB.Holders(ctx, s.Thresholds.OldSnapshot)
			return s.Thresholds.holderFindings(all, blind), err
		}},
	}
}

func (s *Source) webhookCheck() check {
	return check{"webhook", func(ctx context.Context) ([]report.Finding, error) {
		all, _, err := s.DB.Triggers(ctx)
		if err != nil {
			return nil, err
		}
		extensions, err := s.DB.Extensions(ctx)
		if err != nil {
			return nil, err
		}
		own, err := s.DB.Webhook(ctx)
		return webhookFindings(all, extensions, own), err
	}}
}

func (s *Source) deliveriesCheck() check {
	return check{"deliveries", func(ctx context.Context) ([]report.Finding, error) {
		d, err := s.DB.Deliveries(ctx)
		return deliveryFindings(d), err
	}}
}

func (s *Source) extensionsCheck() check {
	return check{"extensions", one(func(ctx context.Context) (report.Finding, error) {
		all, err := s.DB.Extensions(ctx)
		return extensionsFinding(all), err
	})}
}
