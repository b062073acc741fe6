package main

import (
	"context"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store/watched"
	"github.com/edgaze-ai/runcounter/webhook/api"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

// userFlags say which signed-in users may read their own counts.
func userFlags() []cli.Flag {
	return []cli.Flag{
		noneFlag("supabase-url", flagsUsers, "the `URL` of the project whose users may read their own counts", "SUPABASE_URL"),
		noneFlag("supabase-jwt-secret", flagsUsers, "its legacy JWT `SECRET`; better set in the environment", "SUPABASE_JWT_SECRET"),
		&cli.StringFlag{
			Name: "jwt-audience", Category: flagsUsers, Value: "authenticated",
			Usage:   "the `AUDIENCE` of their tokens",
			Sources: cli.EnvVars("RUNCOUNTER_JWT_AUDIENCE"),
		},
		noneFlag("cors-origins", flagsUsers, "the `ORIGINS`, comma-separated, whose pages may ask with such a token", "RUNCOUNTER_CORS_ORIGINS"),
		totalsFlag("who may read a workflow's count over all users: `WHO` is keys, users or everyone", "keys, those of the API alone", "RUNCOUNTER_TOTALS_FOR"),
		noneFlag("console-role", flagsUsers, "the `ROLE` in app_metadata whose users may sign in to the console", "RUNCOUNTER_CONSOLE_ROLE"),
	}
}

// verifierOf returns the verifier of users' tokens, or nil.
func verifierOf(cmd *cli.Command) (*users.Verifier, error) {
	c := users.Config{
		Project: strings.TrimSpace(cmd.String("supabase-url")), Secret: strings.TrimSpace(cmd.String("supabase-jwt-secret")),
		Audience: strings.TrimSpace(cmd.String("jwt-audience")),
	}
	if c.Project == "" && c.Secret == "" {
		return nil, nil
	}
	v, err := users.New(c)
	if err != nil {
		return nil, badUsage("SUPABASE_URL and SUPABASE_JWT_SECRET: %w", err)
	}
	return v, nil
}

// totalsOf returns who may read a workflow's count over all its users; otherwise where
// the flag is not set.
func totalsOf(cmd *cli.Command, otherwise api.Audience) (api.Audience, error) {
	if cmd.String("totals-for") == "" {
		return otherwise, nil
	}
	who, err := oneOf(cmd, "totals-for", string(api.ForKeys), string(api.ForUsers), string(api.ForEveryone))
	return api.Audience(who), err
}

// claimFor returns where tokens say whose counts their users may read, as the
// table has it; none where it counts organisations, and no claim was said.
func claimFor(ctx context.Context, cmd *cli.Command, db backend) ([]string, error) {
	said, err := overridesOf(cmd)
	if err != nil {
		return nil, err
	}
	t := watched.Assumed(said)
	if db.table != nil {
		if t, err = db.table(ctx); err != nil {
			return nil, err
		}
	}
	if t.Claim == "" {
		return nil, nil
	}
	return watched.ClaimPath(t.Claim), nil
}

// originsOf returns the web origins that are allowed.
func originsOf(cmd *cli.Command) (origins []string, err error) {
	for origin := range strings.SplitSeq(cmd.String("cors-origins"), ",") {
		if origin = strings.TrimSpace(origin); origin != "" {
			origins = append(origins, origin)
		}
	}
	if err := api.CheckOrigins(origins); err != nil {
		return nil, badUsage("--cors-origins: %w", err)
	}
	return origins, nil
}
