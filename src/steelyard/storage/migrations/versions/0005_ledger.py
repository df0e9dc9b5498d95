"""The ledger of GPU-seconds and money, budgets, prices."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_BUDGETS = """
    CREATE TABLE budgets (
        project_id TEXT NOT NULL,
        period TEXT NOT NULL CHECK (period IN ('month', 'quarter', 'fixed')),
        starts_on DATE,
        ends_on DATE,
        gpu_hours NUMERIC CHECK (gpu_hours >= 0),
        money NUMERIC CHECK (money >= 0),
        soft_gpu_hours NUMERIC CHECK (soft_gpu_hours >= 0),
        soft_money NUMERIC CHECK (soft_money >= 0),
        updated_by TEXT NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
        PRIMARY KEY (project_id),
        FOREIGN KEY(project_id) REFERENCES projects (id),
        CHECK ((period = 'fixed') = (starts_on IS NOT NULL AND ends_on IS NOT NULL)),
        CHECK (starts_on <= ends_on)
    );
    CREATE TABLE budget_crossings (
        project_id TEXT NOT NULL,
        starts_on DATE NOT NULL,
        limit_kind TEXT NOT NULL CHECK (limit_kind IN ('soft', 'hard')),
        unit TEXT NOT NULL CHECK (unit IN ('gpu_hours', 'money')),
        amount NUMERIC NOT NULL,
        crossed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (project_id, starts_on, limit_kind, unit, amount),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    );
"""

# No foreign key from postings to their transactions: checking it would lock rows that nobody may lock, the
# owner having given up UPDATE. The trigger of the balance finds postings without a transaction.
_LEDGER = """
    CREATE TABLE ledger_transactions (
        id TEXT NOT NULL,
        number BIGINT GENERATED ALWAYS AS IDENTITY,
        project_id TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('reserve', 'meter', 'release')),
        job_id TEXT NOT NULL,
        reservation_id TEXT NOT NULL,
        attempt_id TEXT,
        entries BIGINT NOT NULL CHECK (entries >= 2),
        covers_from TIMESTAMP WITH TIME ZONE,
        covers_until TIMESTAMP WITH TIME ZONE,
        posted_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    );
    CREATE INDEX ledger_by_job ON ledger_transactions (job_id, number);
    CREATE INDEX ledger_by_project ON ledger_transactions (project_id, number);
    CREATE TABLE ledger_postings (
        transaction_id TEXT NOT NULL,
        line BIGINT NOT NULL,
        project_id TEXT NOT NULL,
        account TEXT NOT NULL CHECK (account IN ('allowance', 'reserved', 'spent')),
        day DATE,
        flavor TEXT,
        gpu_seconds NUMERIC NOT NULL,
        money NUMERIC NOT NULL,
        price_per_gpu_hour NUMERIC,
        PRIMARY KEY (transaction_id, line),
        FOREIGN KEY(project_id) REFERENCES projects (id),
        CHECK ((account = 'spent') = (day IS NOT NULL)),
        CHECK ((account = 'spent') = (flavor IS NOT NULL))
    );
"""

# Sums of the postings, kept by a trigger of theirs, so that nobody adds up a month to take one more job.
_SUMS = """
    CREATE TABLE ledger_heads (
        project_id TEXT NOT NULL,
        reserved_gpu_seconds NUMERIC NOT NULL DEFAULT 0,
        reserved_money NUMERIC NOT NULL DEFAULT 0,
        PRIMARY KEY (project_id),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    );
    CREATE TABLE ledger_reservations (
        id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        gpu_seconds NUMERIC NOT NULL,
        money NUMERIC NOT NULL,
        reserves BIGINT NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    );
    CREATE INDEX ledger_reservations_open ON ledger_reservations (id) WHERE gpu_seconds <> 0 OR money <> 0;
    CREATE TABLE ledger_draws (
        job_id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        reservation_id TEXT NOT NULL,
        PRIMARY KEY (job_id),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    );
    CREATE TABLE ledger_days (
        project_id TEXT NOT NULL,
        day DATE NOT NULL,
        gpu_seconds NUMERIC NOT NULL,
        money NUMERIC NOT NULL,
        PRIMARY KEY (project_id, day),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    );
    CREATE TABLE ledger_usage (
        project_id TEXT NOT NULL,
        day DATE NOT NULL,
        job_id TEXT NOT NULL,
        flavor TEXT NOT NULL,
        gpu_seconds NUMERIC NOT NULL,
        money NUMERIC NOT NULL,
        PRIMARY KEY (project_id, day, job_id, flavor),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    );
    CREATE INDEX ledger_usage_by_job ON ledger_usage (job_id);
    CREATE TABLE attempt_meters (
        attempt_id TEXT NOT NULL,
        project_id TEXT NOT NULL,
        job_id TEXT NOT NULL,
        reservation_id TEXT NOT NULL,
        shares JSONB NOT NULL,
        posted_until TIMESTAMP WITH TIME ZONE NOT NULL,
        leased_until TIMESTAMP WITH TIME ZONE NOT NULL,
        ticks BIGINT NOT NULL,
        closed BOOLEAN NOT NULL,
        PRIMARY KEY (attempt_id),
        FOREIGN KEY(project_id) REFERENCES projects (id)
    );
    CREATE INDEX attempt_meters_open ON attempt_meters (posted_until) WHERE NOT closed;
"""

# Heads first: whoever posts for a project waits for that row and then finds all others free.
_KEEP_SUMS = """
    CREATE FUNCTION keep_ledger_sums() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO ledger_heads AS head (project_id, reserved_gpu_seconds, reserved_money)
        SELECT project_id, sum(gpu_seconds) FILTER (WHERE account = 'reserved'),
               sum(money) FILTER (WHERE account = 'reserved')
        FROM added GROUP BY project_id HAVING bool_or(account = 'reserved')
        ON CONFLICT (project_id) DO UPDATE SET
            reserved_gpu_seconds = head.reserved_gpu_seconds + excluded.reserved_gpu_seconds,
            reserved_money = head.reserved_money + excluded.reserved_money;

        INSERT INTO ledger_reservations AS open (id, project_id, gpu_seconds, money, reserves)
        SELECT whole.reservation_id, whole.project_id, sum(added.gpu_seconds), sum(added.money),
               count(*) FILTER (WHERE whole.kind = 'reserve')
        FROM added JOIN ledger_transactions whole ON whole.id = added.transaction_id
        WHERE added.account = 'reserved' GROUP BY 1, 2
        ON CONFLICT (id) DO UPDATE SET
            gpu_seconds = open.gpu_seconds + excluded.gpu_seconds,
            money = open.money + excluded.money,
            reserves = open.reserves + excluded.reserves;

        INSERT INTO ledger_days AS total (project_id, day, gpu_seconds, money)
        SELECT project_id, day, sum(gpu_seconds), sum(money)
        FROM added WHERE account = 'spent' GROUP BY 1, 2
        ON CONFLICT (project_id, day) DO UPDATE SET
            gpu_seconds = total.gpu_seconds + excluded.gpu_seconds,
            money = total.money + excluded.money;

        INSERT INTO ledger_usage AS total (project_id, day, job_id, flavor, gpu_seconds, money)
        SELECT added.project_id, added.day, whole.job_id, added.flavor,
               sum(added.gpu_seconds), sum(added.money)
        FROM added JOIN ledger_transactions whole ON whole.id = added.transaction_id
        WHERE added.account = 'spent' GROUP BY 1, 2, 3, 4
        ON CONFLICT (project_id, day, job_id, flavor) DO UPDATE SET
            gpu_seconds = total.gpu_seconds + excluded.gpu_seconds,
            money = total.money + excluded.money;
        RETURN NULL;
    END
    $$;
    CREATE TRIGGER ledger_postings_sums AFTER INSERT ON ledger_postings
        REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION keep_ledger_sums();
"""

# Deferred to the commit, when all lines are there. `entries` keeps a transaction from growing afterwards,
# by lines that would balance among themselves.
_BALANCE = """
    CREATE FUNCTION require_balance() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        whole ledger_transactions;
        lines BIGINT;
        gpu_seconds NUMERIC;
        money NUMERIC;
        foreign_lines BIGINT;
    BEGIN
        IF TG_TABLE_NAME = 'ledger_transactions' THEN
            whole := NEW;
        ELSE
            SELECT * INTO whole FROM ledger_transactions WHERE id = NEW.transaction_id;
        END IF;
        SELECT count(*), sum(posting.gpu_seconds), sum(posting.money),
               count(*) FILTER (WHERE posting.project_id <> whole.project_id)
        INTO lines, gpu_seconds, money, foreign_lines
        FROM ledger_postings posting WHERE posting.transaction_id = whole.id;
        IF whole.id IS NULL OR lines <> whole.entries OR gpu_seconds <> 0 OR money <> 0
            OR foreign_lines > 0 THEN
            RAISE EXCEPTION 'ledger transaction % does not balance: % of % lines, % GPU-seconds, % money, '
                '% of another project', whole.id, lines, whole.entries, gpu_seconds, money, foreign_lines
                USING ERRCODE = 'check_violation';
        END IF;
        RETURN NULL;
    END
    $$;
    CREATE CONSTRAINT TRIGGER ledger_transactions_balance AFTER INSERT ON ledger_transactions
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION require_balance();
    CREATE CONSTRAINT TRIGGER ledger_postings_balance AFTER INSERT ON ledger_postings
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION require_balance();
"""

_APPEND_ONLY = """
    CREATE TRIGGER ledger_transactions_append_only BEFORE UPDATE OR DELETE ON ledger_transactions
        FOR EACH ROW EXECUTE FUNCTION refuse_change();
    CREATE TRIGGER ledger_transactions_keep BEFORE TRUNCATE ON ledger_transactions
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
    CREATE TRIGGER ledger_postings_append_only BEFORE UPDATE OR DELETE ON ledger_postings
        FOR EACH ROW EXECUTE FUNCTION refuse_change();
    CREATE TRIGGER ledger_postings_keep BEFORE TRUNCATE ON ledger_postings
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
    ALTER TABLE ledger_transactions ENABLE ALWAYS TRIGGER ledger_transactions_append_only;
    ALTER TABLE ledger_transactions ENABLE ALWAYS TRIGGER ledger_transactions_keep;
    ALTER TABLE ledger_transactions ENABLE ALWAYS TRIGGER ledger_transactions_balance;
    ALTER TABLE ledger_postings ENABLE ALWAYS TRIGGER ledger_postings_append_only;
    ALTER TABLE ledger_postings ENABLE ALWAYS TRIGGER ledger_postings_keep;
    ALTER TABLE ledger_postings ENABLE ALWAYS TRIGGER ledger_postings_balance;
    ALTER TABLE ledger_postings ENABLE ALWAYS TRIGGER ledger_postings_sums;
    REVOKE ALL ON ledger_transactions, ledger_postings FROM PUBLIC;
    REVOKE UPDATE, DELETE, TRUNCATE ON ledger_transactions, ledger_postings FROM CURRENT_USER;
"""

# As in 0002, for every table that refuses change, whichever migration made it.
_GRANT = """
    CREATE OR REPLACE FUNCTION grant_application(application name) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        kept regclass;
    BEGIN
        EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', application);
        EXECUTE format(
            'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO %I', application);
        EXECUTE format('GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO %I', application);
        FOR kept IN
            SELECT DISTINCT tgrelid::regclass FROM pg_trigger WHERE tgfoid = 'refuse_change'::regproc
        LOOP
            EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON %s FROM %I', kept, application);
        END LOOP;
    END
    $$;
"""


def upgrade() -> None:
    for statements in (_BUDGETS, _LEDGER, _SUMS, _KEEP_SUMS, _BALANCE, _APPEND_ONLY, _GRANT):
        op.execute(statements)
