// What the examples take from your application.

export interface Plan {
  userId: string;
  perWorkflow: number;
  perMonth: number;
  periodBegan: Date;
}

/** The plan of the signed-in user, by the session's cookie. It throws where no user is signed in. */
export declare function currentPlan(): Promise<Plan>;

/** What a run does. */
export declare function work(userId: string, workflowId: string): Promise<string>;
